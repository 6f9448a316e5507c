"""Local copies of the tasks' data: their hashes, and their rows, with errors that name task, file, line and field."""

from __future__ import annotations

import csv
import json
from io import StringIO
from typing import TYPE_CHECKING

from tinyllama.errors import EvaluationError
from tinyllama.evaluation.task_data import TASK_DATA
from tinyllama.evaluation.task_fetching import folder_of
from tinyllama.files import sha256_file
from tinyllama.record_files import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tinyllama.evaluation.task_data import Field, Row


def data_hashes(tasks: Iterable[str], data: Path) -> dict[str, str]:
    """Path below its folder → SHA-256, of every file that the scores of some tasks of ours depend on."""
    folders = {task: folder_of(task, data) for task in tasks if task in TASK_DATA}
    files = {(path, folder) for task, folder in folders.items() for path in TASK_DATA[task].files(folder)}
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path, folder in sorted(files)}


def read_rows(task: str, path: Path) -> list[Row]:
    """The fields a task reads, of every row of one of its files; other fields are dropped.

    Raises:
        EvaluationError: another layout than lm-eval's definition reads; names task, file, line and field.
    """
    fields = TASK_DATA[task].fields
    rows = []
    for place, row in _rows(task, path):
        for field in fields:
            _check(place, row, field)
        rows.append({field.name: row[field.name] for field in fields})
    if not rows:
        raise EvaluationError(f"{task}: {path}: has no rows; {TASK_DATA[task].remedy}")
    return rows


def _rows(task: str, path: Path) -> Iterator[tuple[str, Row]]:
    """(place, row) of a file: CSV with a header, or JSON lines."""
    try:
        text = path.read_bytes().decode("utf-8-sig")  # line ends inside fields as they are
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(
            f"{task}: {path}: cannot be read as UTF-8 text ({error}); {TASK_DATA[task].remedy}"
        ) from error
    if path.suffix == ".csv":
        table = csv.DictReader(StringIO(text, newline=""))
        for row in table:
            yield f"{task}: {path}:{table.line_num}", row
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"{task}: {path}:{number}", _parse(f"{task}: {path}:{number}", line)


def _parse(place: str, line: str) -> Row:
    try:
        row = parse_json(line)
    except ValueError as error:
        raise EvaluationError(f"{place}: not JSON ({error}); expected one object a line") from error
    if not isinstance(row, dict):
        raise EvaluationError(f"{place}: expected an object, not {json.dumps(row)[:80]}")
    return row


def _check(place: str, row: Row, field: Field) -> None:
    if field.name not in row:
        there = ", ".join(map(str, row)) or "none"
        raise EvaluationError(f"{place}: field {field.name!r} is missing (there: {there}); expected {field.expected}")
    try:
        holds = field.holds(row)
    except TypeError:
        holds = False
    if not holds:
        found = json.dumps(row[field.name], ensure_ascii=False)[:80]
        raise EvaluationError(f"{place}: field {field.name!r} is {found}; expected {field.expected}")
