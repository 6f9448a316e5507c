"""Records out of JSON Lines (plain, gzip, Zstandard), Parquet and Arrow: each one good, or its damage described."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from tinyllama.sources.decompression import DAMAGE, decompress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

    from pyarrow import RecordBatch

RECORD_SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet", ".arrow")
"""Suffixes of files that hold many documents."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
"""Byte order marks of UTF-16, which no UTF-8 begins with."""

_ROWS = 256


Fields = dict[str, Any]  # a user's record: any JSON value, and in Parquet and Arrow any type of theirs


class Record(NamedTuple):
    """One record of a file, or a damaged part of it."""

    location: str
    """Where it is in the file: `:line`, `#row`, or empty for the whole file."""
    fields: Fields
    problem: str = ""
    """Why the record cannot be used; empty for a good one."""
    found: bytes = b""
    """The bytes at the location of a problem."""


def record_suffix(name: str) -> str | None:
    """The suffix of the record format that a file has by its name; None for other files."""
    lower = name.lower()
    return next((suffix for suffix in RECORD_SUFFIXES if lower.endswith(suffix)), None)


def read_records(file: BinaryIO, suffix: str, columns: Iterable[str]) -> Iterator[Record]:
    """The records of a file in one of the formats, in order.

    Damage loses only the part that it affects: a line, a row group, or the rest of a compressed file.

    Args:
        file: the file at its start.
        suffix: its format, one of `RECORD_SUFFIXES`.
        columns: fields that will be looked up (no others are read from Parquet and Arrow); dots reach into structs.

    Raises:
        OSError: the file cannot be read.
    """
    if suffix == ".parquet":
        yield from _read_parquet(file, set(columns))
    elif suffix == ".arrow":
        yield from _read_arrow(file, set(columns))
    else:
        yield from _read_json_lines(decompress(file, suffix))


def lookup(fields: Fields, name: str) -> object:
    """The value of a field, or None; a name with dots that is not itself a field reaches into nested objects."""
    if name in fields:
        return fields[name]
    outer, _, inner = name.partition(".")
    nested = fields.get(outer)
    return lookup(nested, inner) if inner and isinstance(nested, dict) else None


def _read_json_lines(chunks: Iterator[bytes]) -> Iterator[Record]:
    number = 0
    try:
        for number, line in enumerate(_lines(chunks), start=1):
            if number == 1 and line.startswith(UTF_16_MARKS):
                yield Record("", {}, "the file is UTF-16, not UTF-8; all of it is lost: convert it", line)
                return
            content = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
            if content.strip():
                yield _parse(content, f":{number}")
    except DAMAGE as error:
        yield Record("", {}, f"damaged or cut off; what follows line {number} is lost: {error}")


def _parse(line: bytes, location: str) -> Record:
    try:
        fields = _JSON.decode(line.decode())
    except UnicodeDecodeError as error:
        return Record(location, {}, f"not valid UTF-8 at byte {error.start} of the line", line)
    except (ValueError, RecursionError) as error:
        return Record(location, {}, f"not usable JSON: {error}", line)
    if not isinstance(fields, dict):
        return Record(location, {}, f"a JSON {type(fields).__name__} where an object with a text field belongs", line)
    return Record(location, fields)


def _unique(pairs: list[tuple[str, object]]) -> Fields:
    """The object that the pairs spell; refused where a field has two values, since either may be meant."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"field {next(name for name in names if names.count(name) > 1)!r} is given twice")
    return fields


_JSON = json.JSONDecoder(object_pairs_hook=_unique)


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Lines, divided at line feeds only; an error of `chunks` is raised after everything before it was yielded."""
    pending: list[bytes] = []
    failure: Exception | None = None
    try:
        for chunk in chunks:
            first, *others = chunk.split(b"\n")
            pending.append(first)
            for other in others:
                yield b"".join(pending)
                pending = [other]
    except DAMAGE as error:
        failure = error
    if rest := b"".join(pending):
        yield rest
    if failure is not None:
        raise failure


def _read_parquet(file: BinaryIO, names: set[str]) -> Iterator[Record]:
    from pyarrow import ArrowException  # heavy, and most corpora have no Parquet
    from pyarrow.parquet import ParquetFile

    try:
        parquet = ParquetFile(file)
    except ArrowException as error:
        yield Record("", {}, f"not a readable Parquet file; all of it is lost: {error}")
        return
    columns = _columns(parquet.schema_arrow.names, names)
    row = 0
    for group in range(parquet.num_row_groups):
        end = row + parquet.metadata.row_group(group).num_rows
        try:
            for batch in parquet.iter_batches(batch_size=_ROWS, row_groups=[group], columns=columns):
                yield from _rows(batch, row)
                row += batch.num_rows
        except (ArrowException, OSError) as error:
            yield Record("", {}, f"row group {group} is damaged; rows {row} to {end - 1} are lost: {error}")
        row = end


def _read_arrow(file: BinaryIO, names: set[str]) -> Iterator[Record]:
    """Records of Arrow's file format, or of the stream format that `datasets` writes."""
    from pyarrow import ArrowException, ipc  # heavy, and most corpora have none

    row = 0
    try:
        stream = file.read(6) != b"ARROW1"
        file.seek(0)
        reader = ipc.open_stream(file) if stream else ipc.open_file(file)
        columns = _columns(reader.schema.names, names)
        batches = iter(reader) if stream else map(reader.get_batch, range(reader.num_record_batches))
        for batch in batches:
            for start in range(0, batch.num_rows, _ROWS):
                yield from _rows(batch.slice(start, _ROWS).select(columns), row + start)
            row += batch.num_rows
    except (ArrowException, OSError) as error:
        yield Record("", {}, f"not readable as Arrow from row {row} on; the rest is lost: {error}")


def _columns(present: Iterable[str], names: set[str]) -> list[str]:
    """The columns that hold some fields: those of the whole name, or of the part before the first dot."""
    there = set(present)
    return sorted({name if name in there else name.partition(".")[0] for name in names} & there)


def _rows(batch: RecordBatch, first: int) -> Iterator[Record]:
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    for row in range(batch.num_rows):
        location = f"#{first + row}"
        try:
            yield Record(location, {name: column[row].as_py() for name, column in columns.items()})
        except UnicodeDecodeError as error:
            yield Record(location, {}, f"not valid UTF-8 (byte {error.start})", error.object)
