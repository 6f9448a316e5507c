"""JSON files whose content has a type: one reader, which refuses a file by its name and key, and one writer."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from tinyllama.errors import NewerFormatError, UserError
from tinyllama.files import sha256_file, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pydantic import JsonValue

    from tinyllama.errors import TinyLlamaError

_Record = TypeVar("_Record")


class FileRecord(BaseModel):
    """The content of a JSON file, or of a part of one; a key that this version does not know is ignored."""

    model_config = ConfigDict(frozen=True, strict=True)


class FileEntry(FileRecord):
    """A file in a manifest."""

    bytes: int
    sha256: str


def file_entries(folder: Path, known: Mapping[str, str] = MappingProxyType({})) -> dict[str, FileEntry]:
    """The entry of every file in a folder, by name; `known` has the SHA-256 of some already."""
    return {
        path.name: FileEntry(bytes=path.stat().st_size, sha256=known.get(path.name) or sha256_file(path))
        for path in sorted(folder.iterdir())
        if path.is_file()
    }


def parse_json(text: str | bytes) -> JsonValue:
    """The JSON value in a text.

    Raises:
        ValueError: the text is not JSON or not UTF-8, or nests too deeply for the parser.
    """
    try:
        value: JsonValue = json.loads(text)
    except RecursionError:
        raise ValueError("nests too deeply") from None
    return value


def parse_object(text: str | bytes, file: Path | str, error: type[TinyLlamaError], remedy: str) -> dict[str, JsonValue]:
    """The JSON object in the text of a file.

    Args:
        text: what the file holds.
        file: what messages call the file.
        error: raised for a file that cannot be used.
        remedy: what to do about such a file, for the message.

    Raises:
        error: the text is no JSON object.
    """
    try:
        value = parse_json(text)
    except ValueError as failure:
        raise error(f"{file}: is not JSON ({failure}); {remedy}") from failure
    if not isinstance(value, dict):
        raise error(f"{file}: is not a JSON object; {remedy}")
    return value


def read_object(path: Path, error: type[TinyLlamaError], remedy: str) -> dict[str, JsonValue]:
    """The JSON object in a file; arguments and errors are those of `parse_object`.

    Raises:
        FileNotFoundError: the file does not exist.
        error: the file cannot be read or is no JSON object.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as failure:
        raise error(f"{path}: cannot be read ({failure}); {remedy}") from failure
    return parse_object(text, path, error, remedy)


def parse_record(
    kind: type[_Record], value: dict[str, JsonValue], file: Path | str, error: type[TinyLlamaError], remedy: str
) -> _Record:
    """The record that a JSON object holds.

    Args:
        kind: a pydantic model or a dataclass; its `FORMAT` (1 if it has none) is the highest `format` that is read.
        value: the object.
        file: what messages call the file that holds the object.
        error: raised for an object that is no such record.
        remedy: what to do about such a file, for the message.

    Raises:
        NewerFormatError: a later version wrote the file.
        error: a key is missing or its value has the wrong type; the message names the file and the key.
    """
    newest, written = getattr(kind, "FORMAT", 1), value.get("format")
    if isinstance(written, int) and written > newest:
        raise NewerFormatError(file, written, newest)
    try:
        return TypeAdapter(kind).validate_json(json.dumps(value))
    except ValidationError as failure:
        raise error(f"{file}: {first_problem(failure)}; {remedy}") from failure


def read_record(kind: type[_Record], path: Path, error: type[TinyLlamaError], remedy: str) -> _Record:
    """The record in a file; arguments and errors are those of `read_object` and `parse_record`."""
    return parse_record(kind, read_object(path, error, remedy), path, error, remedy)


def holds_record(kind: type[object], path: Path) -> bool:
    """Whether a file is a record of this kind that this or an earlier version wrote.

    Raises:
        NewerFormatError: a later version wrote it.
    """
    try:
        read_record(kind, path, UserError, path.name)  # no message is shown
    except NewerFormatError:
        raise
    except (OSError, UserError):
        return False
    return True


def write_record(path: Path, record: BaseModel) -> None:
    """Write a record atomically, indented for people."""
    write_json(path, record.model_dump(mode="json"))


def first_problem(error: ValidationError, inside: int = 0) -> str:
    """The first key that is wrong and why, `tokens: is missing`, without the `inside` outermost parts of its name."""
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"][inside:]))
    reason = "is missing" if first["type"] == "missing" else f"{first['msg'][0].lower()}{first['msg'][1:]}"
    return f"{key}: {reason}" if key else reason
