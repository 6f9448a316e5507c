"""A model's answers so far, on disk, so that an interrupted evaluation resumes where it stopped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

from tinyllama.files import sha256_json, write_atomic
from tinyllama.record_files import parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from tinyllama.files import Json


class Journal:
    """Answers by the hash of what was asked, one JSON line each, appended as they come.

    The first line is a hash of what they depend on (weights, tokenizer, precision, …); with other inputs the file
    starts empty. A last line that a crash cut short is dropped, and so is any other damaged line.
    """

    def __init__(self, path: Path, inputs: Json) -> None:
        self._path, self._header = path, {"inputs": sha256_json(inputs)}
        self._answers = dict(self._read())

    def __enter__(self) -> Self:
        lines = [self._header, *([key, answer] for key, answer in self._answers.items())]
        write_atomic(self._path, "".join(json.dumps(line) + "\n" for line in lines))
        self._file = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: str) -> Any:  # noqa: ANN401  # any JSON value
        """The answer recorded under a key, or None."""
        return self._answers.get(key)

    def put(self, answers: Mapping[str, Json]) -> None:
        """Record some answers."""
        self._answers |= answers
        self._file.write("".join(json.dumps([key, answer]) + "\n" for key, answer in answers.items()))
        self._file.flush()

    def _read(self) -> list[tuple[str, Any]]:
        lines = _lines(self._path)
        if not lines or _parsed(lines[0]) != self._header:
            return []
        return [pair for line in lines[1:] if (pair := _pair(line))]


def holds_journal(path: Path, inputs: Json = None) -> bool:
    """Whether a file is a journal: of whatever inputs if `inputs` is None, else of these."""
    lines = _lines(path)
    header = _parsed(lines[0]) if lines else None
    return isinstance(header, dict) and (
        header.keys() == {"inputs"} if inputs is None else header == {"inputs": sha256_json(inputs)}
    )


def _lines(path: Path) -> list[str]:
    """The complete lines of a file; none if there is no file."""
    if not path.is_file():
        return []
    return path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]


def _parsed(line: str) -> Json:
    try:
        value: Json = parse_json(line)
    except ValueError:
        return None
    return value


def _pair(line: str) -> tuple[str, Any] | None:
    """The key and answer of a line; None for a damaged line, whose question is answered again."""
    try:
        pair = parse_json(line)
    except ValueError:
        return None
    match pair:
        case [str(key), answer]:
            return key, answer
        case _:
            return None
