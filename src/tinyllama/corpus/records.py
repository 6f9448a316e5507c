"""Records out of JSON Lines (plain, gzip, Zstandard) and Parquet: each one good, or its damage described."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from pyarrow import RecordBatch

RECORD_SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
"""Files of many documents each."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_CHUNK = 1 << 18
_ROWS = 256
_DAMAGE = (EOFError, zlib.error, zstandard.ZstdError)


class Record(NamedTuple):
    """One record of a file, or what was found in its place."""

    place: str
    """Inside the file: `:line`, `#row`, or nothing where the whole file is meant."""
    fields: dict[str, Any]
    problem: str = ""
    found: bytes = b""
    """What stands there, where there is a problem."""


def record_suffix(path: Path) -> str | None:
    """Which of the record formats a file has by its name."""
    name = path.name.lower()
    return next((suffix for suffix in RECORD_SUFFIXES if name.endswith(suffix)), None)


def read_records(path: Path, columns: Iterable[str]) -> Iterator[Record]:
    """The records of a file in one of the formats, in order.

    Damage costs what it hits and no more: a bad line, the row group or the rest of a compressed file.

    Args:
        path: the file.
        columns: fields that will be looked up (Parquet reads no others); dots reach into structs.

    Raises:
        OSError: the file cannot be opened.
    """
    suffix = record_suffix(path)
    with path.open("rb") as file:
        if suffix == ".parquet":
            yield from _read_parquet(file, set(columns))
        else:
            yield from _read_json_lines(_decompress(file, suffix))


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
            content = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
            if content.strip():
                yield _parse(content, f":{number}")
    except _DAMAGE as error:
        yield Record("", {}, f"damaged or cut off; what follows line {number} is lost: {error}")


def _parse(line: bytes, place: str) -> Record:
    try:
        fields = json.loads(line.decode())
    except UnicodeDecodeError as error:
        return Record(place, {}, f"not valid UTF-8 at byte {error.start} of the line", line)
    except (ValueError, RecursionError) as error:
        return Record(place, {}, f"not valid JSON: {error}", line)
    if not isinstance(fields, dict):
        return Record(place, {}, f"a JSON {type(fields).__name__} where an object with a text field belongs", line)
    return Record(place, fields)


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
    except _DAMAGE as error:
        failure = error
    if rest := b"".join(pending):
        yield rest
    if failure is not None:
        raise failure


def _decompress(file: BinaryIO, suffix: str | None) -> Iterator[bytes]:
    """The bytes of a file of any number of compressed frames, in chunks.

    Raises:
        EOFError: the file ends inside a frame (the libraries' own file objects would lose what they hold, or
            not notice).
        zlib.error: damaged gzip.
        zstandard.ZstdError: damaged Zstandard.
    """
    frame = _new_frame(suffix)
    if frame is None:
        while data := file.read(_CHUNK):
            yield data
        return
    within = True  # a compressed file has at least one frame
    while data := file.read(_CHUNK):
        # gzip allows zeros after a frame; no frame of either format begins with one.
        while data := data if within else data.lstrip(b"\0"):
            yield frame.decompress(data)
            within = not frame.eof
            data = frame.unused_data
            if frame.eof:
                frame = _new_frame(suffix)
    if within:
        raise EOFError("the file ends inside a compressed frame")


def _new_frame(suffix: str | None) -> Any:  # noqa: ANN401  # the two libraries' classes only look alike
    if suffix == ".jsonl.zst":
        return zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
    return zlib.decompressobj(wbits=31) if suffix == ".jsonl.gz" else None


def _read_parquet(file: BinaryIO, names: set[str]) -> Iterator[Record]:
    from pyarrow import ArrowException  # noqa: PLC0415  # heavy, and most corpora have no Parquet
    from pyarrow.parquet import ParquetFile  # noqa: PLC0415  # as above

    try:
        parquet = ParquetFile(file)
    except ArrowException as error:
        yield Record("", {}, f"not a readable Parquet file; all of it is lost: {error}")
        return
    present = set(parquet.schema_arrow.names)
    columns = sorted({name if name in present else name.partition(".")[0] for name in names} & present)
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


def _rows(batch: RecordBatch, first: int) -> Iterator[Record]:
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    for row in range(batch.num_rows):
        place = f"#{first + row}"
        try:
            yield Record(place, {name: column[row].as_py() for name, column in columns.items()})
        except UnicodeDecodeError as error:
            yield Record(place, {}, f"not valid UTF-8 at byte {error.start}", error.object)
