"""Records out of Parquet and Arrow files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.sources.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

    from pyarrow import DataType, RecordBatch, Schema

_ROWS = 256


def column_names(file: BinaryIO, suffix: str) -> list[str]:
    """The columns of a Parquet or an Arrow file; none if the file cannot be read."""
    from pyarrow import ArrowException, ipc  # heavy, and most corpora have none
    from pyarrow.parquet import read_schema

    try:
        if suffix == ".parquet":
            return list(read_schema(file).names)
        stream = file.read(6) != b"ARROW1"
        file.seek(0)
        return list((ipc.open_stream(file) if stream else ipc.open_file(file)).schema.names)
    except (ArrowException, OSError):
        return []


def read_parquet(file: BinaryIO, text_field: str, others: Iterable[str]) -> Iterator[Record]:
    """Records of a Parquet file: of each row the fields that are asked for.

    A row group that is damaged is lost alone; a file whose text field is no text is refused as a whole.
    """
    from pyarrow import ArrowException  # heavy, and most corpora have no Parquet
    from pyarrow.parquet import ParquetFile

    try:
        parquet = ParquetFile(file)
    except ArrowException as error:
        yield Record("", {}, f"not a readable Parquet file; all of it is lost: {error}")
        return
    if problem := _no_text(parquet.schema_arrow, text_field):
        yield Record("", {}, problem)
        return
    columns = _columns(parquet.schema_arrow.names, {text_field, *others})
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


def read_arrow(file: BinaryIO, text_field: str, others: Iterable[str]) -> Iterator[Record]:
    """Records of Arrow's file format, or of the stream format that `datasets` writes; see `read_parquet`."""
    from pyarrow import ArrowException, ipc  # heavy, and most corpora have none

    row = 0
    try:
        stream = file.read(6) != b"ARROW1"
        file.seek(0)
        reader = ipc.open_stream(file) if stream else ipc.open_file(file)
        if problem := _no_text(reader.schema, text_field):
            yield Record("", {}, problem)
            return
        columns = _columns(reader.schema.names, {text_field, *others})
        batches = iter(reader) if stream else map(reader.get_batch, range(reader.num_record_batches))
        for batch in batches:
            for start in range(0, batch.num_rows, _ROWS):
                yield from _rows(batch.slice(start, _ROWS).select(columns), row + start)
            row += batch.num_rows
    except (ArrowException, OSError) as error:
        yield Record("", {}, f"not readable as Arrow from row {row} on; the rest is lost: {error}")


def _no_text(schema: Schema, field: str) -> str:
    """Why a field cannot be text by its type, for the whole file; empty if it can, or is not there."""
    from pyarrow import types  # heavy

    kind = _type_of(schema, field)
    if kind is None:
        return ""
    inner = kind.value_type if types.is_dictionary(kind) or types.is_run_end_encoded(kind) else kind
    inner = getattr(inner, "storage_type", inner)  # of an extension
    if any(
        is_text(inner)
        for is_text in (
            types.is_string, types.is_large_string, types.is_string_view, types.is_binary, types.is_large_binary,
            types.is_binary_view, types.is_fixed_size_binary, types.is_null,
        )
    ):  # fmt: skip
        return ""
    remedy = (
        "name a field of text with text_field, or join the pieces before"
        if types.is_nested(inner)
        else ("name a field of text with text_field")
    )
    return f"text field {field!r} is of type {kind}, so no row of the file is text; {remedy}"


def _type_of(schema: Schema, field: str) -> DataType | None:
    """The type of a column, or of a field in a column of structs; None if it is not there."""
    from pyarrow import types  # heavy

    if field in schema.names:
        return schema.field(schema.get_field_index(field)).type
    outer, *inner = field.split(".")
    kind = schema.field(schema.get_field_index(outer)).type if outer in schema.names else None
    for name in inner:
        if kind is None or not types.is_struct(kind) or (index := kind.get_field_index(name)) < 0:
            return None
        kind = kind.field(index).type
    return kind


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
            yield Record(location, {}, f"not valid UTF-8 at byte {error.start}", error.object)
