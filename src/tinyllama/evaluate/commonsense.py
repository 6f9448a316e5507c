"""Zero-shot scores on the seven commonsense tasks, by lm-eval's own code on local copies of the data.

Prompts, splits and metrics are those of lm-eval's task definitions; only the rows come from
`<data>/<file>.jsonl` instead of a hub, so nothing here reaches for the network or a cache.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyllama.errors import EvaluationError
from tinyllama.evaluate.published import TASKS, mean
from tinyllama.evaluate.task_data import TASK_DATA, read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tinyllama.corpus.tokenizer import TextTokenizer
    from tinyllama.evaluate.task_data import Row
    from tinyllama.model import Llama

GROUP = "commonsense"
"""The name that stands for all seven tasks."""

METRICS = {task.name: task.metric for task in TASKS}

_FOLDERS = ("arc", "hellaswag", "openbookqa", "piqa", "super_glue/boolq", "winogrande")
"""Of the seven definitions in lm-eval: to read its whole index takes ten seconds, to read these none."""


@dataclass(frozen=True)
class TaskScore:
    """A task's score and its standard error (None for one question) as fractions, and the questions asked."""

    metric: str
    score: float
    stderr: float | None
    questions: int


@dataclass(frozen=True)
class MissingTask:
    """A task without a score, and why."""

    reason: str


@dataclass(frozen=True)
class TaskScores:
    """One model's results by task, in the order asked for."""

    tasks: dict[str, TaskScore | MissingTask]

    @property
    def average(self) -> float | None:
        """The plain mean over the seven tasks; None unless all seven have a score."""
        scores = [result.score for result in self.tasks.values() if isinstance(result, TaskScore)]
        return mean(scores) if len(scores) == len(TASKS) else None

    def to_json(self) -> dict[str, Any]:
        """Task → its fields, and `average`."""
        return {name: asdict(result) for name, result in self.tasks.items()} | {"average": self.average}


def evaluate_tasks(  # noqa: PLR0913  # what a caller chooses, each by name
    model: Llama,
    tokenizer: TextTokenizer,
    tasks: Sequence[str],
    data: Path,
    *,
    limit: int | None = None,
    bos: bool = True,
) -> TaskScores:
    """Score a model zero-shot.

    Args:
        model: scored on the device its weights are on.
        tokenizer: the one it was trained with.
        tasks: names of `TASKS`, or `commonsense` for all of them.
        data: folder with the local copies.
        limit: at most so many questions of each task, from the first.
        bos: whether training documents began with BOS.

    Raises:
        EvaluationError: an unknown task, or a file in another layout than lm-eval's definition reads.
    """
    names = expand_tasks(tasks)
    if find_spec("lm_eval") is None:
        return TaskScores({name: MissingTask("install tinyllama[eval]") for name in names})
    rows, results = {}, dict[str, TaskScore | MissingTask]()
    for name in names:
        path = data / TASK_DATA[name].file
        if path.is_file():
            rows[name] = read_rows(name, path)
        else:
            results[name] = MissingTask(f"{path} is not there; {TASK_DATA[name].remedy}")
    if rows:
        results |= _run(model, tokenizer, rows, limit, bos=bos)
    return TaskScores({name: results[name] for name in names})


def expand_tasks(names: Sequence[str]) -> list[str]:
    """Names of tasks, each once, with `commonsense` standing for all seven.

    Raises:
        EvaluationError: a name is neither.
    """
    expanded: dict[str, None] = {}
    for name in names:
        if name != GROUP and name not in METRICS:
            near = get_close_matches(name, [GROUP, *METRICS], 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            known = f"{GROUP} (all seven), {', '.join(METRICS)}"
            raise EvaluationError(f"evaluation.tasks: no task is named {name!r}{hint}; there are: {known}")
        expanded |= dict.fromkeys(METRICS if name == GROUP else [name])
    return list(expanded)


def _run(
    model: Llama, tokenizer: TextTokenizer, rows: dict[str, list[Row]], limit: int | None, *, bos: bool
) -> dict[str, TaskScore]:
    """Hand our rows and our model to lm-eval."""
    from lm_eval import tasks as definitions  # type: ignore[import-untyped]  # noqa: PLC0415  # ships no types; heavy
    from lm_eval.evaluator import evaluate  # type: ignore[import-untyped]  # noqa: PLC0415  # as above

    from tinyllama.evaluate.language_model import LlamaLM  # noqa: PLC0415  # needs lm-eval

    root = Path(definitions.__file__).parent
    with _quiet():
        manager = definitions.TaskManager(include_path=[root / folder for folder in _FOLDERS], include_defaults=False)
        loaded = manager.load({"group": GROUP, "task": [_member(name, rows[name]) for name in rows]})
        language_model = LlamaLM(model, tokenizer, bos=bos)
        outcome = evaluate(language_model, {"tasks": loaded["tasks"]}, limit=limit, log_samples=False)
    return {name: _score(name, outcome) for name in rows}


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


def _member(name: str, rows: list[Row]) -> dict[str, Any]:
    """lm-eval's definition of a task over our rows.

    The splits that are not there are taken out, so that lm-eval does not look for examples in them.
    """
    from datasets import Dataset  # type: ignore[import-untyped]  # noqa: PLC0415  # heavy; comes with lm-eval

    split = TASK_DATA[name].split

    def dataset(**_: object) -> dict[str, Any]:
        return {split: Dataset.from_list(rows)}

    absent = {"training_split": None} | ({"validation_split": None} if split == "test" else {})
    return {"task": name, "custom_dataset": dataset, "num_fewshot": 0} | absent


def _score(name: str, outcome: dict[str, Any]) -> TaskScore:
    result, metric = outcome["results"][name], METRICS[name]
    stderr = result[f"{metric}_stderr,none"]
    return TaskScore(
        metric=metric,
        score=float(result[f"{metric},none"]),
        stderr=float(stderr) if isinstance(stderr, float) else None,
        questions=int(outcome["n-samples"][name]["effective"]),
    )
