"""Scores on tasks by lm-eval's own code, on local copies of the data.

Prompts, splits and metrics are those of lm-eval's task definitions; only the rows come from
`<data>/<file>.jsonl` instead of a hub, so nothing here reaches for the network or a cache.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from tinyllama.evaluate.catalogue import CODE, GROUPS, expand_tasks
from tinyllama.evaluate.published import mean
from tinyllama.evaluate.task_data import TASK_DATA
from tinyllama.evaluate.task_files import find_files, read_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tinyllama.corpus.tokenizer import Tokenizer
    from tinyllama.evaluate.journal import Journal
    from tinyllama.evaluate.task_data import Row
    from tinyllama.model import Llama

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


def evaluate_tasks(
    model: Llama, tokenizer: Tokenizer, tasks: Sequence[str], data: Path, options: Options | None = None
) -> TaskScores:
    """Score a model.

    Args:
        model: scored on the device its weights are on.
        tokenizer: the one it was trained with.
        tasks: names of tasks or groups, see `expand_tasks`.
        data: folder with the local copies.
        options: how to ask; None takes the defaults.

    Raises:
        EvaluationError: an unknown task, or a file in another layout than lm-eval's definition reads.
    """
    options, names = options or Options(), expand_tasks(tasks)
    if find_spec("lm_eval") is None:
        return TaskScores({name: MissingTask("install tinyllama[eval]") for name in names})
    from tinyllama.evaluate.harness import run_task  # noqa: PLC0415  # needs lm-eval
    from tinyllama.evaluate.humaneval import evaluate_code  # noqa: PLC0415  # as above

    rows = {name: _rows(name, data) for name in names}  # before anything is scored: mistakes are said at once
    results, answers = dict[str, TaskScore | MissingTask](), dict[str, list[dict[str, Any]]]()
    for name, found in rows.items():
        if isinstance(found, MissingTask):
            results[name] = found
        elif name == CODE:
            results[name], answers[name] = evaluate_code(model, tokenizer, found[""]["test"], options)
        else:
            results[name], answers[name] = run_task(model, tokenizer, name, found, options)
    return TaskScores(results, answers)


def _rows(name: str, data: Path) -> dict[str, Splits] | MissingTask:
    """A task's rows by subject (one without a name, for most) and split, or why there are none."""
    from tinyllama.evaluate.harness import subjects_of  # noqa: PLC0415  # needs lm-eval

    task, files = TASK_DATA[name], find_files(name, data)
    absent = [subject for subject in subjects_of(name) if subject not in files]
    if absent:
        wanted = ", ".join(str(data / task.file.replace("*", subject)) for subject in absent[:3])
        others = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        return MissingTask(f"{wanted}{others} {'are' if len(absent) > 1 else 'is'} not there; {task.remedy}")
    rows = {subject: {task.split: read_rows(name, files[subject])} for subject in subjects_of(name)}
    if task.examples:
        path = data / task.examples
        if not path.is_file():
            return MissingTask(f"{path} is not there; {task.original}, split train, is needed for the examples")
        rows[""]["train"] = read_rows(name, path)
    return rows
