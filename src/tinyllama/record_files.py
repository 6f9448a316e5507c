"""JSON files whose content has a type: one reader, which refuses a file by its name and key, and one writer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tinyllama.files import write_json

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import JsonValue

    from tinyllama.errors import TinyLlamaError

_Record = TypeVar("_Record", bound=BaseModel)


class FileRecord(BaseModel):
    """The content of a JSON file, or of a part of one; a key that this version does not know is ignored."""

    model_config = ConfigDict(frozen=True, strict=True)


def read_object(path: Path, error: type[TinyLlamaError], remedy: str) -> dict[str, JsonValue]:
    """The JSON object in a file.

    Args:
        path: the file.
        error: raised for a file that cannot be used.
        remedy: what to do about such a file, for the message.

    Raises:
        FileNotFoundError: the file does not exist.
        error: the file cannot be read or holds no JSON object.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as failure:
        raise error(f"{path}: cannot be read ({failure}); {remedy}") from failure
    if not isinstance(value, dict):
        raise error(f"{path}: holds no JSON object; {remedy}")
    return value


def parse_record(
    kind: type[_Record], value: dict[str, JsonValue], path: Path, error: type[TinyLlamaError], remedy: str
) -> _Record:
    """The record that a JSON object spells.

    Args:
        kind: type of the record.
        value: the object.
        path: file that holds the object, for the message.
        error: raised for an object that is no such record.
        remedy: what to do about such a file, for the message.

    Raises:
        error: a key is missing or its value has the wrong type; the message names the file and the key.
    """
    try:
        return kind.model_validate_json(json.dumps(value))
    except ValidationError as failure:
        first = failure.errors()[0]
        key = ".".join(map(str, first["loc"]))
        reason = "is missing" if first["type"] == "missing" else f"{first['msg'][0].lower()}{first['msg'][1:]}"
        raise error(f"{path}: {key}: {reason}; {remedy}") from failure


def read_record(kind: type[_Record], path: Path, error: type[TinyLlamaError], remedy: str) -> _Record:
    """The record in a file.

    Args and errors are those of `read_object` and `parse_record`.
    """
    return parse_record(kind, read_object(path, error, remedy), path, error, remedy)


def write_record(path: Path, record: BaseModel) -> None:
    """Write a record atomically, indented for people."""
    write_json(path, record.model_dump(mode="json"))
