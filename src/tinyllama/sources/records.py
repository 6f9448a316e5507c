"""Records out of JSON, JSON Lines, Parquet and Arrow files: each one good, or its damage described."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.sources.columnar import read_arrow, read_parquet
from tinyllama.sources.decompression import COMPRESSED_SUFFIXES, decompress
from tinyllama.sources.json_records import read_json, read_json_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

    from tinyllama.sources.record import Record

_JSON_LINES = (".jsonl", ".ndjson")
_COMPRESSIONS = ("", *COMPRESSED_SUFFIXES)
JSON_SUFFIXES = tuple(f".json{compression}" for compression in _COMPRESSIONS)
"""Suffixes of files that hold records if their content says so."""
COLUMN_SUFFIXES = (".parquet", ".arrow")
"""Suffixes of files that hold records in columns, all with the same fields."""
RECORD_SUFFIXES = (
    *(name + compression for name in _JSON_LINES for compression in _COMPRESSIONS),
    *JSON_SUFFIXES,
    *COLUMN_SUFFIXES,
)
"""Suffixes of files that hold many documents."""


def record_suffix(name: str) -> str | None:
    """The suffix of the record format that a file has by its name; None for other files."""
    lower = name.lower()
    return next((suffix for suffix in RECORD_SUFFIXES if lower.endswith(suffix)), None)


def read_records(file: BinaryIO, suffix: str, text_field: str, others: Iterable[str] = ()) -> Iterator[Record]:
    """The records of a file in one of the formats, in order.

    Damage loses only the part that it affects: a line, a row group, or the rest of a compressed file.

    Args:
        file: the file at its start.
        suffix: its format, one of `RECORD_SUFFIXES`.
        text_field: field with the text; dots reach into structs.
        others: further fields that will be looked up; no others are read from Parquet and Arrow.

    Raises:
        OSError: the file cannot be read.
    """
    if suffix == ".parquet":
        yield from read_parquet(file, text_field, others)
    elif suffix == ".arrow":
        yield from read_arrow(file, text_field, others)
    elif suffix in JSON_SUFFIXES:
        yield from read_json(decompress(file, suffix)) or ()
    else:
        yield from read_json_lines(decompress(file, suffix))
