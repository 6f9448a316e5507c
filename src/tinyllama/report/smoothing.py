"""A line through noisy points: the mean of the points around each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_PART = 50
"""A window spans one part in this number of the points."""


def running_mean(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Centered, weighted means over about 1/50 of the points, and over at least three.

    Near the first point, a window reaches as far forward as back, so that a steep fall there stays where it is. Near
    the last point, it holds what is left of it. Values that are not finite do not count; a window of such values alone
    gives NaN.
    """
    count = len(values)
    at = np.arange(count)
    reach = np.minimum(at, max(1, round(count / (2 * _PART))))
    known = np.isfinite(values)
    weighed = np.where(known, weights, 0.0)
    parts = np.where(known, values, 0.0) * weighed
    windows = [slice(first, last) for first, last in zip(at - reach, at + reach + 1, strict=True)]
    with np.errstate(invalid="ignore"):  # 0/0 is the NaN of a window without a value
        means: list[float] = [float(parts[window].sum() / weighed[window].sum()) for window in windows]
    return means
