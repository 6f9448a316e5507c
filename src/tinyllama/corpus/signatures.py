"""The signatures of a corpus's documents, by which later corpora find copies of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.errors import CorpusError

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

SIGNATURES = "signatures.parquet"
"""File of a corpus with the signature of each of its documents, in order; only of a corpus without copies."""


def signature_schema(size: int) -> pa.Schema:
    """Columns of the file: where the document is, and its signature of `size` bytes."""
    import pyarrow as pa

    return pa.schema([("origin", pa.string()), ("signature", pa.binary(size))])


def read_signatures(folder: Path) -> pa.Table:
    """The signatures in a folder of a corpus or of a task.

    Raises:
        CorpusError: the file cannot be read.
    """
    from pyarrow import ArrowException, parquet

    path = folder / SIGNATURES
    try:
        return parquet.read_table(path, partitioning=None)
    except (ArrowException, OSError) as error:
        remedy = "delete the folder and prepare the corpus again"
        raise CorpusError(f"{path}: the signatures of documents cannot be read ({error}); {remedy}") from error
