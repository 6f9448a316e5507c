"""Rows and occurrences as a Parquet file."""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from tinyllama.fidelity.rows import SeenRow
from tinyllama.fidelity.visits import Occurrence
from tinyllama.files import new_file
from tinyllama.folders import claim_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pyarrow as pa

Result = TypeVar("Result", SeenRow, Occurrence)
_BATCH = 1000
"""Results in memory at once."""


def write_table(path: Path, kind: type[Result], results: Iterable[Result]) -> None:
    """Write one row for each result, with the fields of `kind` as columns, which do not depend on the results.

    Raises:
        UserError: the path holds something else than an earlier table.
    """
    import pyarrow as pa  # slow to import, needed only here
    from pyarrow import parquet

    claim_file(path, "a table of rows", _is_table)
    schema, left = _schema(kind), iter(results)
    with new_file(path) as file, parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while batch := list(islice(left, _BATCH)):
            writer.write_table(pa.Table.from_pylist(list(map(asdict, batch)), schema=schema))


def _schema(kind: type[SeenRow | Occurrence]) -> pa.Schema:
    import pyarrow as pa

    text, number = pa.string(), pa.int64()
    if kind is SeenRow:
        piece = {"document": number, "origin": text, "part": number, "start": number, "tokens": number, "text": text}
        own = {"step": number, "position": number, "corpus": text, "row": number, "update": text}
        return pa.schema(own | {"pieces": pa.list_(pa.struct(piece))})
    steps = pa.map_(text, pa.list_(number))
    where = {"text": text, "corpus": text, "split": text, "origin": text, "document": number, "row": number}
    return pa.schema(where | {"steps": steps, "skipped": steps, "later": steps})


def _is_table(path: Path) -> bool:
    from pyarrow import ArrowException, parquet

    try:
        return {"corpus", "row"} <= set(parquet.read_schema(path).names)
    except (OSError, ArrowException):
        return False
