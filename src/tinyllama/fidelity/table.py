"""Rows and occurrences as a Parquet file."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from tinyllama.folders import claim_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tinyllama.fidelity.rows import SeenRow
    from tinyllama.fidelity.visits import Occurrence


def write_table(path: Path, results: Iterable[SeenRow | Occurrence]) -> None:
    """Write one row for each result, with the results' fields as columns.

    Raises:
        UserError: the path holds something else than an earlier table.
    """
    import pyarrow as pa  # slow to import, needed only here
    from pyarrow import parquet

    claim_file(path, "a table of rows", _is_table)
    with path.open("wb") as file:  # pyarrow opens no path that is not UTF-8
        parquet.write_table(pa.Table.from_pylist(list(map(asdict, results))), file, compression="zstd")


def _is_table(path: Path) -> bool:
    from pyarrow import ArrowException, parquet

    try:
        return {"corpus", "row"} <= set(parquet.read_schema(path).names)
    except (OSError, ArrowException):
        return False
