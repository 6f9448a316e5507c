"""What was asked of a model and what it answered, question by question: the lines of questions.jsonl."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tinyllama.errors import EvaluationError
from tinyllama.files import write_atomic
from tinyllama.record_files import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Response = str | tuple[float, bool]
"""A text, or an option's log-likelihood in nats and whether greedy decoding would give it."""


@dataclass(frozen=True)
class Answer:
    """One question and its answers."""

    task: str
    question: int | str
    """Number in the task's file, after the subject's name where a task has subjects; or the row's own name."""
    responses: list[Response]
    scores: dict[str, float]
    """Metric → value for this question."""
    requests: list[list[Any]] = field(default_factory=list)
    """Context and option, or context and settings, of each request, as lm-eval made them."""
    target: object = None
    """The right answer, as lm-eval's definition states it."""
    row_sha256: str | None = None
    passed: list[bool] | None = None
    """Of programs, which passed their tests."""


def write_answers(path: Path, answers: Iterable[Answer]) -> None:
    """Write answers, a JSON object a line."""
    write_atomic(path, "".join(f"{_line(answer)}\n" for answer in answers))


def read_answers(path: Path) -> list[Answer]:
    """Read what `write_answers` wrote.

    Raises:
        EvaluationError: the file cannot be read, or a line is no answer; names the line.
    """
    try:
        with path.open(encoding="utf-8") as file:
            lines = list(file)  # which end at line feeds alone, not at U+2028 as of `splitlines`
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path}: the answers cannot be read ({error}); evaluate the model again") from error
    answers = []
    for number, line in enumerate(lines, 1):
        try:
            answers.append(parse_answer(line))
        except (ValueError, TypeError, KeyError) as error:
            raise EvaluationError(f"{path}:{number}: is no answer ({error!r}); evaluate the model again") from error
    return answers


def parse_answer(line: str) -> Answer:
    """The answer in a line; lm-eval's own logs spell numbers and flags as text."""
    fields = _object(line)
    return Answer(
        task=fields.pop("task"),
        question=fields.pop("question"),
        responses=[
            response if isinstance(response, str) else (float(response[0]), str(response[1]) == "True")
            for response in fields.pop("responses")
        ],
        requests=fields.pop("requests", None) or [],
        target=fields.pop("target", None),
        row_sha256=fields.pop("row_sha256", None),
        passed=fields.pop("passed", None),
        scores={metric: float(value) for metric, value in fields.items()},  # all other keys, so this comes last
    )


def _object(
    line: str,
) -> dict[str, Any]:  # what a line of ours or of lm-eval holds; Answer checks it
    """The object in a line.

    Raises:
        ValueError: there is none.
    """
    fields = parse_json(line)
    if not isinstance(fields, dict):
        raise ValueError("is not an object")  # noqa: TRY004  # as for a line that is not JSON
    return fields


def _line(answer: Answer) -> str:
    fields = {"task": answer.task, "question": answer.question}
    if answer.passed is None:
        asked = {"requests": answer.requests, "responses": answer.responses, "target": answer.target}
        return json.dumps(fields | asked | answer.scores | {"row_sha256": answer.row_sha256}, ensure_ascii=False)
    ran = {"responses": answer.responses, "passed": answer.passed}
    return json.dumps(fields | ran | answer.scores, ensure_ascii=False)
