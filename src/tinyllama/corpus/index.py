"""The columnar index of a corpus's documents: its file, its columns and their types."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.errors import CorpusError

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

INDEX_COLUMNS = ("start", "tokens", "bytes", "origin", "group", "part")


def index_file(split: str) -> str:
    """Name of the file with the columnar index of a split's documents."""
    return f"{split}.documents.parquet"


def unreadable_index(path: Path, error: Exception) -> CorpusError:
    """The error for an index that cannot be read."""
    remedy = "delete the folder and prepare the corpus again"
    return CorpusError(f"{path}: the index of documents cannot be read ({error}); {remedy}")


def index_schema() -> pa.Schema:
    """Columns of a document index: first token, number of tokens, bytes of the text, and where the text came from."""
    import pyarrow as pa

    types = (pa.int64(), pa.int64(), pa.int64(), pa.string(), pa.string(), pa.int64())
    return pa.schema(list(zip(INDEX_COLUMNS, types, strict=True)))
