"""Scores on tasks by lm-eval's own code, on local copies of the data.

Prompts, splits and metrics are those of lm-eval's task definitions; only the rows come from
`<data>/<file>.jsonl` instead of a hub, so nothing here reaches for the network or a cache.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tinyllama.evaluate.catalogue import CATALOGUE, CODE, GROUPS, expand_tasks
from tinyllama.evaluate.noise import bootstrap_stderr
from tinyllama.evaluate.published import mean
from tinyllama.evaluate.task_data import TASK_DATA, read_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tinyllama.corpus.tokenizer import Tokenizer
    from tinyllama.evaluate.journal import Journal
    from tinyllama.evaluate.task_data import Row
    from tinyllama.model import Llama

_COMMONSENSE = GROUPS["commonsense"]
_FEW_SHOT_SEED = 1234
"""What lm-eval's own command takes."""


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
    rows = {name: _rows(name, data) for name in names}  # before anything is scored: mistakes are said at once
    results, answers = dict[str, TaskScore | MissingTask](), dict[str, list[dict[str, Any]]]()
    for name, found in rows.items():
        if isinstance(found, MissingTask):
            results[name] = found
        elif name == CODE:
            from tinyllama.evaluate.humaneval import evaluate_code  # noqa: PLC0415  # needs lm-eval

            results[name], answers[name] = evaluate_code(model, tokenizer, found["test"], options)
        else:
            results[name], answers[name] = _run(model, tokenizer, name, found, options)
    return TaskScores(results, answers)


def _rows(name: str, data: Path) -> dict[str, list[Row]] | MissingTask:
    """A task's rows by split, or why there are none."""
    task = TASK_DATA[name]
    files = {task.split: task.file} | ({"train": task.examples} if task.examples else {})
    for split, file in files.items():
        if not (data / file).is_file():
            remedy = (
                task.remedy if split == task.split else f"{task.original}, split {split}, is needed for the examples"
            )
            return MissingTask(f"{data / file} is not there; {remedy}")
    return {split: read_rows(name, data / file) for split, file in files.items()}


def _run(
    model: Llama, tokenizer: Tokenizer, name: str, rows: dict[str, list[Row]], options: Options
) -> tuple[TaskScore, list[dict[str, Any]]]:
    """Hand our rows and our model to lm-eval, for one task."""
    from lm_eval import tasks as definitions  # type: ignore[import-untyped]  # noqa: PLC0415  # ships no types; heavy
    from lm_eval.evaluator import evaluate  # type: ignore[import-untyped]  # noqa: PLC0415  # as above

    from tinyllama.evaluate.language_model import LlamaLM  # noqa: PLC0415  # needs lm-eval

    folder = Path(definitions.__file__).parent / CATALOGUE[name].folder
    language_model = LlamaLM(
        model, tokenizer, bos=options.bos, rows=options.rows, journal=options.journal,
        progress=lambda done, of: options.progress(name, done, of),
    )  # fmt: skip
    with _quiet():
        manager = definitions.TaskManager(include_path=[folder], include_defaults=False)
        loaded = manager.load({"group": "one", "task": [_member(name, rows)]})
        for task in loaded["tasks"].values():
            task.set_fewshot_seed(_FEW_SHOT_SEED)
        outcome = evaluate(language_model, {"tasks": loaded["tasks"]}, limit=options.limit, log_samples=True)
    return _score(name, outcome), _answers(name, outcome)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back lm-eval's progress bars and its advice on task definitions, which are its own."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stderr(StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _member(name: str, rows: dict[str, list[Row]]) -> dict[str, Any]:
    """lm-eval's definition of a task over our rows.

    The splits that are not there are taken out, so that lm-eval does not look for examples in them.
    """
    from datasets import Dataset  # type: ignore[import-untyped]  # noqa: PLC0415  # heavy; comes with lm-eval

    def dataset(**_: object) -> dict[str, Any]:
        return {split: Dataset.from_list(members) for split, members in rows.items()}

    given = {"num_fewshot": CATALOGUE[name].shots, "custom_dataset": dataset}
    absent = {} if "train" in rows else {"training_split": None}
    if TASK_DATA[name].split == "test":
        absent["validation_split"] = None
    return {"task": name} | given | absent


def _samples(name: str, outcome: dict[str, Any]) -> list[dict[str, Any]]:
    """lm-eval's record of each question, under the filter that counts, in the order of the file."""
    wanted = CATALOGUE[name].filter
    found = [sample for sample in outcome["samples"][name] if sample["filter"] == wanted]
    return sorted(found, key=lambda sample: sample["doc_id"])


def _score(name: str, outcome: dict[str, Any]) -> TaskScore:
    task, result = CATALOGUE[name], outcome["results"][name]
    stderr = result[f"{task.metric}_stderr,{task.filter}"]
    values = [float(sample[task.metric]) for sample in _samples(name, outcome)]
    return TaskScore(
        metric=task.metric,
        score=float(result[f"{task.metric},{task.filter}"]),
        stderr=float(stderr) if isinstance(stderr, float) else None,
        questions=int(outcome["n-samples"][name]["effective"]),
        bootstrap_stderr=bootstrap_stderr(values),
        version=str(outcome["versions"][name]),
        shots=int(outcome["n-shot"][name]),
    )


def _answers(name: str, outcome: dict[str, Any]) -> list[dict[str, Any]]:
    """Question by question: what was asked, the model's answers (log-likelihoods or text), and the metrics."""
    metric = CATALOGUE[name].metric
    return [
        {
            "task": name,
            "question": sample["doc_id"],
            "requests": [list(arguments)[:2] for arguments in sample["arguments"]],
            "responses": [
                list(response[0]) if isinstance(response[0], tuple) else response[0] for response in sample["resps"]
            ],
            "target": sample["target"],
            metric: float(sample[metric]),
            "row_sha256": sample["doc_hash"],
        }
        for sample in _samples(name, outcome)
    ]
