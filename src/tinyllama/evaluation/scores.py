"""What evaluating tasks takes and gives: options, scores, and why a task has none."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import BeforeValidator

from tinyllama.evaluation.answers import Answer  # noqa: TC001  # pydantic reads the annotation
from tinyllama.evaluation.catalogue import GROUPS
from tinyllama.evaluation.published import mean
from tinyllama.text import listing, number, percent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tinyllama.evaluation.hub_sets import HubSets
    from tinyllama.evaluation.journal import Journal
    from tinyllama.evaluation.task_data import Row
    from tinyllama.files import Json

_NO_SHARES = {"perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "bleu", "chrf", "ter"}
_COMMONSENSE = GROUPS["commonsense"]
_SILENT: dict[str, Json] = {"cut": None, "higher_is_better": True, "chance": None, "right_bits": None, "margin": None}
"""Fields that an earlier version did not write, and what they are while they say nothing."""
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
    cut: int | None = None
    """Questions whose prompts lost their beginning, since they were longer than the model's context; None where a
    record of an earlier version does not say."""
    higher_is_better: bool = True
    chance: float | None = None
    """Score of a guess among the options, 0 without options; None where an earlier version does not say, as below."""
    right_bits: float | None = None
    """Bits per byte of the right answer, a mean over the questions; None for a task without log-likelihoods."""
    margin: float | None = None
    """Bits per byte of the best wrong option less those of the right one, a mean; None for a task without options."""

    @property
    def is_share(self) -> bool:
        """Whether the score lies between 0 and 1, and is shown in percent."""
        return self.metric not in _NO_SHARES

    def shown(self, value: float | None) -> str:
        """The score or an error of it, for people."""
        return percent(value) if self.is_share else number(value, 3)


@dataclass(frozen=True)
class MissingTask:
    """A task without a score, and why."""

    reason: str


def gaps(results: Iterable[tuple[str, object]]) -> list[str]:
    """A sentence without its period for each reason why some of these tasks have no score."""
    tasks: dict[str, list[str]] = {}
    for name, result in results:
        if isinstance(result, MissingTask):
            tasks.setdefault(result.reason, []).append(name)
    return [f"no score for {listing(names)}: {reason}" for reason, names in tasks.items()]


def _without_average(tasks: object) -> object:
    """The tasks of a file; their average, which stands beside them there, follows from them."""
    return {name: result for name, result in tasks.items() if name != "average"} if isinstance(tasks, dict) else tasks


StoredTasks = Annotated[dict[str, TaskScore | MissingTask], BeforeValidator(_without_average)]
"""One model's tasks as files hold them."""


@dataclass(frozen=True)
class TaskScores:
    """One model's results by task, in the order asked for."""

    tasks: dict[str, TaskScore | MissingTask]
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    """Task → what was asked and answered, question by question; empty where scores are read from a record."""

    @property
    def measured(self) -> dict[str, TaskScore]:
        """The tasks that have a score."""
        return {name: result for name, result in self.tasks.items() if isinstance(result, TaskScore)}

    @property
    def missing(self) -> dict[str, MissingTask]:
        """The tasks that have none."""
        return {name: result for name, result in self.tasks.items() if isinstance(result, MissingTask)}

    @property
    def cut_notes(self) -> list[str]:
        """A sentence without its period on the tasks whose prompts were cut, if there are any."""
        tasks = [
            f"{name} {item.cut:,} of {item.questions:,} questions" for name, item in self.measured.items() if item.cut
        ]
        text = "prompts longer than the model's context lost their beginning, which can lower the scores"
        return [f"{text}: {listing(tasks)}"] if tasks else []

    @property
    def gaps(self) -> list[str]:
        """A sentence without its period for each reason why tasks have no score."""
        return gaps(self.tasks.items())

    @property
    def average(self) -> float | None:
        """The plain mean over the seven commonsense tasks; None unless all seven have a score."""
        scores = [self.measured[name].score for name in _COMMONSENSE if name in self.measured]
        return mean(scores) if len(scores) == len(_COMMONSENSE) else None

    @property
    def fractions(self) -> dict[str, float | None]:
        """Task (and `average`) → its score alone if it is a share; None if it has none."""
        scores = {name: item.score if isinstance(item, TaskScore) else None for name, item in self.tasks.items()}
        shares = {
            name: score for name, score in scores.items() if name not in self.measured or self.measured[name].is_share
        }
        return shares | {"average": self.average}

    def to_json(self) -> dict[str, Json]:
        """Task → its fields, and `average`."""
        return {name: _to_json(result) for name, result in self.tasks.items()} | {"average": self.average}


def _to_json(result: TaskScore | MissingTask) -> dict[str, Json]:
    """A result's fields; those that earlier versions did not know stay absent while they say nothing."""
    return {key: value for key, value in asdict(result).items() if key not in _SILENT or value != _SILENT[key]}


class EvaluationOptions(NamedTuple):
    """How to ask."""

    limit: int | None = None
    """At most this many questions of each task, from the first."""
    bos: bool = True
    """Begin every text with BOS."""
    rows: int | None = None
    """Rows of a forward pass; None takes as many as suit the device."""
    run_code: bool = False
    """Run programs that the model writes, in a sandbox."""
    samples: int = 1
    """Programs for each question of HumanEval; above 1 they are sampled, and from 10 on pass@10 is recorded."""
    journal: Journal | None = None
    """Answers already known, and where new ones go."""
    shots: int | None = None
    """Examples before each question; None takes as many as a task's definition states."""
    include_path: Path | None = None
    """Folder of a user's own definitions in lm-eval's format."""
    hub: HubSets | None = None
    """Fetches data; shared by several evaluations, it waits for a silent hub only once."""
    progress: Callable[[str, int, int], None] = lambda _task, _done, _all: None
    """Called with (task, questions done, questions in all)."""
    say: Callable[[str], None] = lambda _message: None
    """Called with a message after data of a task was fetched."""
