"""What evaluating tasks takes and gives: options, scores, and why a task has none."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from tinyllama.evaluation.catalogue import GROUPS
from tinyllama.evaluation.published import mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from tinyllama.evaluation.journal import Journal
    from tinyllama.evaluation.task_data import Row

_COMMONSENSE = GROUPS["commonsense"]
Splits = dict[str, list["Row"]]
"""Rows by split."""


@dataclass(frozen=True)
class TaskScore:
    """A task's score and its standard errors (None for one question) as fractions, and how it was measured."""

    metric: str
    score: float
    stderr: float | None
    """By lm-eval's formula."""
    questions: int
    bootstrap_stderr: float | None = None
    version: str = ""
    """Of lm-eval's definition."""
    shots: int = 0


@dataclass(frozen=True)
class MissingTask:
    """A task without a score, and why."""

    reason: str


@dataclass(frozen=True)
class TaskScores:
    """One model's results by task, in the order asked for."""

    tasks: dict[str, TaskScore | MissingTask]
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Task → what was asked and answered, question by question."""

    @property
    def average(self) -> float | None:
        """The plain mean over the seven commonsense tasks; None unless all seven have a score."""
        results = [self.tasks.get(name) for name in _COMMONSENSE]
        scores = [result.score for result in results if isinstance(result, TaskScore)]
        return mean(scores) if len(scores) == len(_COMMONSENSE) else None

    def to_json(self) -> dict[str, Any]:
        """Task → its fields, and `average`."""
        return {name: asdict(result) for name, result in self.tasks.items()} | {"average": self.average}


class Options(NamedTuple):
    """How to ask."""

    limit: int | None = None
    """At most so many questions of each task, from the first."""
    bos: bool = True
    """Begin every text with BOS."""
    rows: int | None = None
    """Rows of a forward pass; None takes as many as suit the device."""
    run_code: bool = False
    """Run programs that the model writes, in a sandbox."""
    samples: int = 1
    """Programs for each question of HumanEval; above 1 they are sampled, and pass@10 is told from 10 on."""
    journal: Journal | None = None
    """Answers already known, and where new ones go."""
    progress: Callable[[str, int, int], None] = lambda _task, _done, _all: None
    """Told (task, done, of all)."""
