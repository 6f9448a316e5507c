"""Checks of what comes after training: tasks, their data, and the packages that evaluation and report need."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tinyllama.errors import EvaluationError
from tinyllama.evaluation.catalogue import CATALOGUE, expand_tasks
from tinyllama.evaluation.hub_sets import HubSets
from tinyllama.evaluation.scores import MissingTask, gaps
from tinyllama.evaluation.task_data import TASK_DATA
from tinyllama.evaluation.task_fetching import provide
from tinyllama.evaluation.task_files import read_rows
from tinyllama.family.preflight.situation import Finding
from tinyllama.installation import install_hint
from tinyllama.recipe import Evaluation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tinyllama.evaluation.lm_eval_tasks import NamedTask
    from tinyllama.family.preflight.situation import Phase, Situation


def check_tasks(situation: Situation) -> Iterator[Finding]:
    """Every task of the recipe exists."""
    try:
        expand_tasks(situation.recipe.evaluation.tasks)
    except EvaluationError as error:
        yield Finding(str(error))


def check_task_data(situation: Situation) -> Iterator[Finding]:
    """The tasks' files are there, or the hub gives them, and can be read; a task without its file has no score."""
    evaluation, data = situation.recipe.evaluation, situation.data
    phase: Phase = "report" if evaluation.tasks_every is None else "train"
    is_default = data == Path(Evaluation.model_fields["data"].default)
    try:
        tasks = expand_tasks(evaluation.tasks)
    except EvaluationError:  # which another check reports
        return
    if not tasks or (is_default and phase not in situation.phases):
        return
    if not data.is_dir() and not is_default:
        yield situation.needed_by(phase, f"evaluation.data: {data} is no folder; correct it, or leave it out")
        return
    said, hub = list[str](), HubSets()
    folders = provide(tasks, data, said.append, hub)
    yield from (Finding(text, is_fault=False) for text in said)
    found = [*gaps(folders.items()), *gaps(_load_others(tasks, hub).items())]
    yield from (Finding(f"evaluation.tasks: {gap}", is_fault=False) for gap in found)
    for task, folder in folders.items():
        for path in () if isinstance(folder, MissingTask) else TASK_DATA[task].files(folder):
            try:
                read_rows(task, path)
            except EvaluationError as error:
                yield situation.needed_by(phase, str(error))


def _load_others(tasks: Sequence[str], hub: HubSets) -> dict[str, NamedTask | MissingTask]:
    """The tasks that lm-eval alone defines, with their data; none without lm-eval, which another check reports."""
    others = [task for task in tasks if task not in CATALOGUE]
    if not others or find_spec("lm_eval") is None:
        return {}
    from tinyllama.evaluation.lm_eval_tasks import load_tasks  # needs lm-eval

    return load_tasks(others, hub=hub)


def check_samples(situation: Situation) -> Iterator[Finding]:
    """There is something to continue during training."""
    evaluation = situation.recipe.evaluation
    if evaluation.samples_every is not None and not evaluation.prompts:
        yield Finding("evaluation.samples_every: there is no prompt to continue; state some in evaluation.prompts")


def check_packages(situation: Situation) -> Iterator[Finding]:
    """The extras that the recipe's keys and the report need are installed."""
    recipe = situation.recipe
    needed: list[tuple[str, str, Phase, bool]] = [
        ("logging.wandb", "wandb", "train", recipe.logging.wandb is not None),
        ("logging.trackio", "trackio", "train", recipe.logging.trackio is not None),
        ("logging.mlflow", "mlflow", "train", recipe.logging.mlflow is not None),
        ("precision: fp8", "torchao", "train", recipe.precision == "fp8"),
        ("the report's charts", "plotly", "report", True),
    ]
    for what, package, phase, is_needed in needed:
        if is_needed and find_spec(package) is None:
            extra = {"torchao": "fp8", "plotly": "report"}.get(package, package)
            yield situation.needed_by(phase, f"{what}: {package} is not installed; {install_hint(extra)}")
    if recipe.evaluation.tasks and find_spec("lm_eval") is None:
        yield Finding(
            f"evaluation.tasks: lm-eval is not installed, so tasks get no scores; {install_hint('eval')}",
            is_fault=False,
        )
