"""The tasks that can be evaluated, and groups of them: metric, number of examples, lm-eval's definition."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from tinyllama.errors import EvaluationError
from tinyllama.evaluation.lm_eval_index import definitions, lm_eval_folder
from tinyllama.evaluation.published import TASKS
from tinyllama.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class TaskDefinition(NamedTuple):
    """How a task is scored."""

    metric: str
    """The one that counts, by lm-eval's name."""
    folder: str
    """Folder of its definition in lm-eval, whose whole index takes ten seconds to read."""
    shots: int = 0
    filter: str = "none"
    """Of lm-eval, applied to generated text before it is compared."""
    group: str | None = None
    """lm-eval's name for the group of subjects that makes up this task; its score is the mean over all questions."""


CODE = "humaneval"
"""The one task whose answers are programs that have to be run."""

_FOLDERS = {"arc_challenge": "arc", "arc_easy": "arc", "boolq": "super_glue/boolq"}
_SUMS = ("1dc", "2da", "2dm", "2ds", "3da", "3ds", "4da", "4ds", "5da", "5ds")

CATALOGUE: dict[str, TaskDefinition] = {
    **{task.name: TaskDefinition(task.metric, _FOLDERS.get(task.name, task.name)) for task in TASKS},
    CODE: TaskDefinition("pass@1", "humaneval"),
    "gsm8k": TaskDefinition("exact_match", "gsm8k", shots=5, filter="strict-match"),
    **{f"arithmetic_{kind}": TaskDefinition("acc", "arithmetic") for kind in _SUMS},
    "xcopa_zh": TaskDefinition("acc", "xcopa"),
    "xstorycloze_zh": TaskDefinition("acc", "xstorycloze"),
    "ceval": TaskDefinition("acc", "ceval", group="ceval-valid"),
    "cmmlu": TaskDefinition("acc", "cmmlu", group="cmmlu"),
}

GROUPS: dict[str, tuple[str, ...]] = {
    "commonsense": tuple(task.name for task in TASKS),
    "code": (CODE,),
    "math": ("gsm8k", *(f"arithmetic_{kind}" for kind in _SUMS)),
    "arithmetic": tuple(f"arithmetic_{kind}" for kind in _SUMS),
    "chinese": ("xcopa_zh", "xstorycloze_zh", "ceval", "cmmlu"),
    "all": tuple(CATALOGUE),
}


def expand_tasks(names: Sequence[str], include_path: Path | None = None) -> list[str]:
    """Names of tasks, each once, with a group of ours standing for its members.

    Args:
        names: of tasks and groups, ours or lm-eval's.
        include_path: folder of a user's own definitions.

    Raises:
        EvaluationError: a name is neither.
    """
    expanded: dict[str, None] = {}
    for name in map(str.strip, names):
        if name not in GROUPS and name not in CATALOGUE:
            _require_defined(name, include_path)
        expanded |= dict.fromkeys(GROUPS.get(name, (name,)))
    return list(expanded)


def _require_defined(name: str, include_path: Path | None) -> None:
    """Refuse a name that neither lm-eval nor a user's folder defines."""
    folders = [folder for folder in (include_path, lm_eval_folder()) if folder is not None]
    known = dict.fromkeys(chain(GROUPS, CATALOGUE, *map(definitions, folders)))
    if name not in known:
        raise EvaluationError(
            f"evaluation.tasks: no task is named {name!r}{did_you_mean(name, known)}; there are the groups "
            f"{', '.join(GROUPS)}, the tasks {', '.join(CATALOGUE)}, and those of lm-eval, if it is installed"
        )
