"""Whether one model is better than another on the questions that both answered.

The interval of a difference is a percentile bootstrap over the questions, each drawn with the answers of both models
(paired). Its p-value comes from the same data with the two models' answers exchanged at random on each question
(approximate randomization, Noreen 1989), which is exact for any number of questions. Several p-values are corrected by
Holm (1979).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tinyllama.evaluation.noise import RESAMPLES, SEED

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVEL = 0.05
"""A difference is significant if its corrected p-value is at most this."""
_DRAWN = 1 << 21
"""Numbers drawn at a time."""


@dataclass(frozen=True)
class PairedTest:
    """The mean difference of two models' values, the second less the first."""

    difference: float
    low: float
    """The interval's ends cover 95%."""
    high: float
    p: float
    """Of a difference at least as large, if the models were equal."""


def paired_test(differences: Sequence[float], resamples: int = RESAMPLES, seed: int = SEED) -> PairedTest:
    """Test whether the mean of some differences is 0; with a fixed seed, so that a comparison can be repeated.

    Args:
        differences: the second model's value less the first's, for each question; at least one.
        resamples: of the questions, and of the exchanges.
        seed: of both.
    """
    values, n = np.asarray(differences, np.float32), len(differences)
    rng = np.random.default_rng(seed)
    means, chance = list[NDArray[np.float32]](), list[NDArray[np.float32]]()
    rows = max(1, _DRAWN // n)
    for start in range(0, resamples, rows):
        size = (min(rows, resamples - start), n)
        means.append(values[rng.integers(n, size=size, dtype=np.int32)].mean(1))
        signs = 2 * rng.integers(2, size=size, dtype=np.int8) - 1
        chance.append(signs.astype(np.float32) @ values)
    low, high = np.percentile(np.concatenate(means), (2.5, 97.5))
    nearly = abs(values.sum()) * (1 - 1e-5)  # equal sums may be rounded differently
    extreme = int((np.abs(np.concatenate(chance)) >= nearly).sum())
    return PairedTest(float(np.mean(differences)), float(low), float(high), (extreme + 1) / (resamples + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number, in the same order."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable").tolist()):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected
