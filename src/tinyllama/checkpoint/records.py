"""One way to read a JSON record of a checkpoint into its type, or to refuse it by file and key."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from tinyllama.errors import CheckpointError

if TYPE_CHECKING:
    from pydantic import JsonValue

_Record = TypeVar("_Record", bound=BaseModel)


def parse_object(text: str | bytes, file: str) -> dict[str, JsonValue]:
    """A JSON object from the text of a file.

    Raises:
        CheckpointError: it is none; names the file.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{file}: is not JSON ({error}); the checkpoint is damaged") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{file}: is not a JSON object; the checkpoint is damaged")
    return value


def parse_record(kind: type[_Record], value: dict[str, JsonValue], file: str, newest: int) -> _Record:
    """A record from a JSON object.

    Args:
        kind: its type.
        value: the object.
        file: what messages call the file it is from.
        newest: the highest `format` that this version reads.

    Raises:
        CheckpointError: a key is missing or of another type, or a later version wrote it; names file and key.
    """
    number = value.get("format")
    if isinstance(number, int) and number > newest:
        raise CheckpointError(
            f"{file}: format: {number} was written by a later version of tinyllama (this one reads up to {newest}); "
            "upgrade tinyllama"
        )
    try:
        return kind.model_validate_json(json.dumps(value))
    except ValidationError as error:
        raise CheckpointError(f"{file}: {first_problem(error)}; the checkpoint is damaged") from error


def first_problem(error: ValidationError, inside: int = 0) -> str:
    """The first key that is wrong and why, `tokens: is missing`, without the `inside` outermost parts of its name."""
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"][inside:]))
    reason = "is missing" if first["type"] == "missing" else f"{first['msg'][0].lower()}{first['msg'][1:]}"
    return f"{key}: {reason}" if key else reason
