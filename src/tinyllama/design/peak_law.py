"""How the best peak learning rate changes with the compute: a power law, fitted to the rungs of a sweep."""

from __future__ import annotations

import math
from statistics import fmean, linear_regression
from typing import TYPE_CHECKING, NamedTuple

from tinyllama.design.scaling_fit import Interval
from tinyllama.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Sequence

FEWEST_CERTAIN = 3
"""Rungs from which on the fit leaves residuals, which tell how sure it is."""
_STUDENT = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812)
"""Of Student's t with 1 to 10 degrees of freedom: what its absolute value stays below with a probability of
`CONFIDENCE`. With more degrees of freedom, the last one makes intervals a little too wide."""


class TunedRung(NamedTuple):
    """A rung whose best peak is known."""

    flops: float
    """Of one trial."""
    peak: float
    """Of the trials themselves, which is the highest learning rate that they are trained with."""


class PeakLaw(NamedTuple):
    """Peak = a · C^exponent for C FLOPs, and what it gives for a model."""

    exponent: float
    peak: float
    """Of the model."""
    exponent_interval: Interval | None
    """None for two rungs, through which the law goes exactly."""
    peak_interval: Interval | None
    """Likewise."""


def fit_peaks(rungs: Sequence[TunedRung], flops: float) -> PeakLaw:
    """Fit ln peak = ln a + exponent · ln C by least squares, with the intervals of a regression line.

    The intervals (Draper & Smith 1998, "Applied Regression Analysis", sections 1.4 and 3.1) take the residuals for
    noise of equal size. That the law holds as far as the model, and for more tokens as for more parameters, is an
    assumption, which is in no interval.

    Args:
        rungs: at least two.
        flops: of training the model.

    Raises:
        PlanError: all rungs take equally many FLOPs.
    """
    xs, ys = [math.log(rung.flops) for rung in rungs], [math.log(rung.peak) for rung in rungs]
    if len(set(xs)) < 2:
        raise PlanError(
            f"{len(rungs)} rungs of {rungs[0].flops:.3g} FLOPs each do not tell how the peak changes with the compute; "
            "use rungs of different sizes"
        )
    exponent, offset = linear_regression(xs, ys)
    at = math.log(flops)
    peak = offset + exponent * at
    if len(rungs) < FEWEST_CERTAIN:
        return PeakLaw(exponent, math.exp(peak), None, None)
    free, center = len(rungs) - 2, fmean(xs)
    squares = math.fsum((y - offset - exponent * x) ** 2 for x, y in zip(xs, ys, strict=True))
    noise = _STUDENT[min(free, len(_STUDENT)) - 1] * math.sqrt(squares / free)
    spread = math.sqrt(math.fsum((x - center) ** 2 for x in xs))
    slope, off = noise / spread, noise * math.hypot(1 / math.sqrt(len(xs)), (at - center) / spread)
    return PeakLaw(
        exponent,
        math.exp(peak),
        Interval(exponent - slope, exponent + slope),
        Interval(math.exp(peak - off), math.exp(peak + off)),
    )
