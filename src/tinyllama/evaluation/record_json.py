"""Evaluation records as JSON files: reading them into typed fields, with errors that name file and key."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from tinyllama.errors import EvaluationError

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import TypeAdapter

_Stored = TypeVar("_Stored")
_REMEDY = "delete it and evaluate the model again"


def parse_stored(path: Path, adapter: TypeAdapter[_Stored]) -> _Stored:
    """Read a file of JSON whose key `tasks`, beside the tasks, may hold their average, which follows from them.

    Raises:
        EvaluationError: the file cannot be read, or a key is missing or wrong; names file and key.
    """
    data = read_object(path)
    tasks = data.get("tasks")
    if isinstance(tasks, dict):
        tasks.pop("average", None)
    try:
        return adapter.validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise EvaluationError(f"{path}: {key}: {first['msg']}; {_REMEDY}") from error


def read_object(path: Path) -> dict[str, Any]:  # JSON, before a reader has checked its keys
    """The JSON object in a file.

    Raises:
        EvaluationError: it cannot be read or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path}: cannot be read as JSON: {error}; {_REMEDY}") from error
    if not isinstance(value, dict):
        raise EvaluationError(f"{path}: holds a {type(value).__name__}, not an object; {_REMEDY}")
    return value
