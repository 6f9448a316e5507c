"""Standard errors of scores, and whether a difference exceeds chance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tinyllama.evaluation.published import PUBLISHED, TASKS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tinyllama.evaluation.scores import TaskScore

RESAMPLES, SEED = 10_000, 1234
Z95 = 1.96
"""Standard errors that a difference must exceed to be significant at 95%."""

QUESTIONS = {
    "hellaswag": 10042, "openbookqa": 500, "winogrande": 1267, "arc_challenge": 1172, "arc_easy": 2376,
    "boolq": 3270, "piqa": 1838,
}  # fmt: skip
"""In the full split that each published score was measured on."""


class Difference(NamedTuple):
    """A score against a published one, in percentage points."""

    points: float
    noise: float
    """Half of the 95% interval of a difference between two such samples."""

    @property
    def exceeds_noise(self) -> bool:
        """Whether chance in the choice of questions does not explain it."""
        return abs(self.points) > self.noise


def bootstrap_stderr(values: Sequence[float]) -> float | None:
    """Standard deviation of the mean over resamples of the questions, with a fixed seed; None for one question."""
    if len(values) < 2:
        return None
    distinct, counts = np.unique(np.asarray(values), return_counts=True)
    drawn = np.random.default_rng(SEED).multinomial(len(values), counts / len(values), size=RESAMPLES)
    return float((drawn @ distinct / len(values)).std())


def differences(scores: Mapping[str, TaskScore]) -> dict[str, dict[str, Difference]]:
    """Published model → task (and `average`) → the difference of a record's scores to it.

    The published models' own errors are those of a share over the questions of the full split. Our error is the
    bootstrap's, or what chance gives a model as good as the published one on as many questions, if that is larger:
    a bootstrap of few questions that are all right or all wrong has no error. Both models were asked some of
    the same questions, which makes the true noise of the difference smaller, so this errs on the safe side.

    Args:
        scores: of the tasks that were measured.
    """
    found: dict[str, dict[str, Difference]] = {}
    for row in PUBLISHED:
        variances, compared = [], dict[str, Difference]()
        for task, percent in zip(TASKS, row.scores, strict=True):
            result = scores.get(task.name)
            if result is not None and result.bootstrap_stderr is not None:
                spread = percent / 100 * (1 - percent / 100)
                ours = max(result.bootstrap_stderr**2, spread / result.questions)
                variances.append(ours + spread / QUESTIONS[task.name])
                compared[task.name] = Difference(100 * result.score - percent, 100 * Z95 * math.sqrt(variances[-1]))
        if len(compared) == len(TASKS):
            points = sum(item.points for item in compared.values()) / len(TASKS)
            compared["average"] = Difference(points, 100 * Z95 * math.sqrt(sum(variances)) / len(TASKS))
        found[row.model] = compared
    return found
