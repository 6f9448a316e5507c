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
"""Files of many documents each."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
"""Byte order marks of UTF-16; no UTF-8 begins so."""

_ROWS = 256


class Record(NamedTuple):
    """One record of a file, or what was found in its place."""

    place: str
    """Inside the file: `:line`, `#row`, or nothing where the whole file is meant."""
    fields: dict[str, Any]
    problem: str = ""
    found: bytes = b""
    """What stands there, where there is a problem."""


def record_suffix(name: str) -> str | None:
    """Which of the record formats a file has by its name."""
    lower = name.lower()
    return next((suffix for suffix in RECORD_SUFFIXES if lower.endswith(suffix)), None)


def read_records(file: BinaryIO, suffix: str, columns: Iterable[str]) -> Iterator[Record]:
    """The records of a file in one of the formats, in order.

    Damage costs what it hits and no more: a bad line, the row group or the rest of a compressed file.

    Args:
        file: at its start.
        suffix: its format, one of `RECORD_SUFFIXES`.
        columns: fields that will be looked up (Parquet and Arrow read no others); dots reach into structs.

    Raises:
        OSError: the file cannot be read.
    """
    if suffix == ".parquet":
        yield from _read_parquet(file, set(columns))
    elif suffix == ".arrow":
        yield from _read_arrow(file, set(columns))
    else:
        yield from _read_json_lines(decompress(file, suffix))


def lookup(fields: dict[str, Any], name: str) -> Any:  # noqa: ANN401  # any JSON value
    """The value of a field, or None; a name with dots that is no field itself reaches into nested objects."""
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


def _parse(line: bytes, place: str) -> Record:
    try:
        fields = _JSON.decode(line.decode())
    except UnicodeDecodeError as error:
        return Record(place, {}, f"not valid UTF-8 at byte {error.start} of the line", line)
    except (ValueError, RecursionError) as error:
        return Record(place, {}, f"not usable JSON: {error}", line)
    if not isinstance(fields, dict):
        return Record(place, {}, f"a JSON {type(fields).__name__} where an object with a text field belongs", line)
    return Record(place, fields)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of some pairs; which value of a field given twice is meant, nobody can tell."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"field {next(name for name in names if names.count(name) > 1)!r} is given twice")
    return fields


_JSON = json.JSONDecoder(object_pairs_hook=_unique)


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Lines, divided at line feeds only; a failure of `chunks` comes after all that could be read."""
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
    """Arrow's own formats: the file, or the stream that `datasets` writes."""
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
    """The columns that hold some fields: by the whole name, or by what stands before the first dot."""
    there = set(present)
    return sorted({name if name in there else name.partition(".")[0] for name in names} & there)


def _rows(batch: RecordBatch, first: int) -> Iterator[Record]:
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    for row in range(batch.num_rows):
        place = f"#{first + row}"
        try:
            yield Record(place, {name: column[row].as_py() for name, column in columns.items()})
        except UnicodeDecodeError as error:
            yield Record(place, {}, f"not valid UTF-8 at byte {error.start}", error.object)
