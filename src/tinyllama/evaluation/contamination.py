"""Evaluation questions that occur in a corpus; see `quality.overlap` for how they are found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.evaluation.hub_sets import HubSets
from tinyllama.evaluation.scores import MissingTask
from tinyllama.evaluation.task_data import TASK_DATA
from tinyllama.evaluation.task_fetching import provide
from tinyllama.evaluation.task_files import read_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def read_questions(
    tasks: Sequence[str], data: Path, include_path: Path | None = None
) -> tuple[dict[str, list[str]], dict[str, MissingTask]]:
    """Task → texts of its questions with their right answers, and the tasks whose data is not there.

    Args:
        tasks: names of tasks.
        data: folder with the local copies.
        include_path: folder of a user's own definitions in lm-eval's format.

    Raises:
        EvaluationError: a file has another layout than its task reads, or a definition cannot be loaded.
    """
    questions: dict[str, list[str]] = {}
    missing: dict[str, MissingTask] = {}
    hub, ours = HubSets(), [name for name in tasks if name in TASK_DATA]
    if others := [name for name in tasks if name not in ours]:
        from tinyllama.evaluation.lm_eval_tasks import load_tasks  # needs lm-eval

        for name, task in load_tasks(others, include_path, hub=hub).items():
            if isinstance(task, MissingTask):
                missing[name] = task
            else:
                questions[name] = task.texts()
    for name, folder in provide(ours, data, hub=hub).items():
        if isinstance(folder, MissingTask):
            missing[name] = folder
        else:
            files = TASK_DATA[name].question_files(folder).values()
            questions[name] = [TASK_DATA[name].question(row) for file in files for row in read_rows(name, file)]
    return questions, missing
