"""Scores on tasks by lm-eval's own code, on local copies of the data.

Prompts, splits and metrics are those of lm-eval's task definitions; only the rows come from the files of
`tinyllama.evaluation.task_fetching`.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from tinyllama.evaluation.catalogue import CATALOGUE, CODE, expand_tasks
from tinyllama.evaluation.hub_sets import HubSets
from tinyllama.evaluation.measures import with_measures
from tinyllama.evaluation.scores import EvaluationOptions, MissingTask, TaskScore, TaskScores
from tinyllama.evaluation.task_data import TASK_DATA, no_data
from tinyllama.evaluation.task_fetching import provide
from tinyllama.evaluation.task_files import read_rows
from tinyllama.installation import install_hint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tinyllama.evaluation.answers import Answer
    from tinyllama.evaluation.lm_eval_tasks import NamedTask
    from tinyllama.evaluation.scores import Splits
    from tinyllama.model import Llama
    from tinyllama.tokenizer.base import Tokenizer


def evaluate_tasks(
    model: Llama, tokenizer: Tokenizer, tasks: Sequence[str], data: Path, options: EvaluationOptions | None = None
) -> TaskScores:
    """Score a model.

    Args:
        model: scored on the device its weights are on.
        tokenizer: the one it was trained with.
        tasks: names of tasks or groups, see `expand_tasks`.
        data: folder with the local copies; what is not there is fetched from the hub.
        options: how to ask; None takes the defaults.

    Raises:
        EvaluationError: an unknown task, or a file in another layout than lm-eval's definition reads.
    """
    options = options or EvaluationOptions()
    names = expand_tasks(tasks, options.include_path)
    if find_spec("lm_eval") is None:
        return TaskScores({name: MissingTask(f"lm-eval is not installed: {install_hint('eval')}") for name in names})
    hub = options.hub or HubSets()
    # All are read before anything is scored, so that mistakes are reported at once.
    ours = [name for name in names if name in CATALOGUE and options.shots is None]
    others: dict[str, NamedTask | MissingTask] = {}
    if further := [name for name in names if name not in ours]:
        from tinyllama.evaluation.lm_eval_tasks import load_tasks  # needs lm-eval, which takes seconds

        others = load_tasks(further, options.include_path, options.shots, hub)
    folders = provide(ours, data, options.say, hub)
    rows = {name: found if isinstance(found, MissingTask) else _rows(name, found) for name, found in folders.items()}
    results: dict[str, TaskScore | MissingTask] = {}
    answers: dict[str, list[Answer]] = {}
    for name, found in rows.items():
        if isinstance(found, MissingTask):
            results[name] = found
        elif name == CODE:
            from tinyllama.evaluation.humaneval import evaluate_code

            results[name], answers[name] = evaluate_code(model, tokenizer, found[""]["test"], options)
        else:
            from tinyllama.evaluation.harness import run_task  # needs lm-eval

            results[name], answers[name] = run_task(model, tokenizer, name, found, options)
    for name, task in others.items():
        if isinstance(task, MissingTask):
            results[name] = task
        else:
            from tinyllama.evaluation.lm_eval_tasks import run_loaded

            results[name], answers[name] = run_loaded(model, tokenizer, task, options)
    order = [*names, *results]  # a group of lm-eval's without a score stands for its members
    return with_measures(TaskScores({name: results[name] for name in order if name in results}, answers))


def _rows(name: str, data: Path) -> dict[str, Splits] | MissingTask:
    """A task's rows by subject (most tasks have one, without a name) and split, or why there are none."""
    from tinyllama.evaluation.harness import subjects_of  # needs lm-eval

    task = TASK_DATA[name]
    files = task.question_files(data)
    absent = [subject for subject in subjects_of(name) if subject not in files]
    if absent:
        return MissingTask(no_data(task, [data / task.file.replace("*", subject) for subject in absent]))
    rows = {subject: {task.split: read_rows(name, files[subject])} for subject in subjects_of(name)}
    if task.examples:
        path = data / task.examples
        if not path.is_file():
            remedy = f"save {task.original} of the Hugging Face hub, split train, there as JSON lines"
            return MissingTask(f"no examples: {path} does not exist; {remedy}")
        rows[""]["train"] = read_rows(name, path)
    return rows
