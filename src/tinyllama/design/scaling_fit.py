"""A law of the final loss, E + A/N^alpha + B/D^beta, fitted to trainings, and how sure its predictions are.

The objective is that of Hoffmann et al. 2022 ("Training Compute-Optimal Large Language Models", approach 3): Huber's
loss of the residuals of the logarithm of the loss, from a grid of starts. They minimize it with L-BFGS; for five
unknowns, Levenberg-Marquardt with Huber's weights finds the same minima to more digits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tinyllama.design.rules import LossFit
from tinyllama.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

UNKNOWNS = 5
FEWEST_SIZES, FEWEST_LENGTHS = 3, 3
"""Numbers of parameters, and of tokens, below which E cannot be told from the terms that fall."""
CONFIDENCE = 0.9
"""Part of the replicas inside an interval."""
_HUBER = 1e-2
"""Residuals of the logarithm beyond which they count linearly. Hoffmann et al. 2022 have 1e-3 for hundreds of
trainings; of so few, those within a percent must count in full, or the law goes through five of them and ignores the
others."""
_REPLICAS = 300
_STEPS = 120
_NO_GAIN, _MOST_DAMPING = 1e-7, 1e6
"""Relative gain of a step, and damping without one, at which a row has converged."""
_EXPONENTS = (0.15, 0.4, 1.0)
"""Of alpha and beta at the starts."""
_IRREDUCIBLE, _OF_SIZE = (0.2, 0.5, 0.8), (0.25, 0.75)
"""At the starts: E as a part of the lowest loss; the term of parameters as a part of what is left of the mean."""
MOST_EXPONENT = 3.0
"""Of alpha and beta: beyond, a term would act at the smallest models or the shortest trainings alone."""


class Trained(NamedTuple):
    """A finished training."""

    parameters: int
    tokens: int
    loss: float
    """Held-out, in nats a token."""
    name: str = "a training"
    """For messages: the rung and its branch."""


class Interval(NamedTuple):
    """What a number probably is between, with `CONFIDENCE`."""

    low: float
    high: float


@dataclass(frozen=True)
class ScalingFit:
    """A fitted law, and the laws of its bootstrap replicas."""

    law: LossFit
    residuals: Array
    """ln(measured / fitted loss) of each point, [points]; scaled up by what five unknowns take away."""
    replicas: Array
    """ln A, ln B, ln E, alpha and beta of each replica, [replicas, 5]."""

    @property
    def intervals(self) -> LawIntervals:
        """How sure each of the five unknowns is."""
        size, length, rest, alpha, beta = (_interval(column) for column in self.replicas.T)
        return LawIntervals(_exp(rest), _exp(size), _exp(length), alpha, beta)

    @property
    def typical_error(self) -> float:
        """Root mean square of the relative residuals."""
        return float(np.sqrt(np.mean(self.residuals**2)))

    def interval(self, parameters: float, tokens: float) -> Interval:
        """Between what the loss of one more training probably is: the law's uncertainty and the noise of a training.

        What lies beyond the law, such as a term that it lacks, is in no interval.
        """
        size, length, rest, alpha, beta = self.replicas.T
        n, d = np.log(parameters), np.log(tokens)
        logs = np.logaddexp(np.logaddexp(size - alpha * n, length - beta * d), rest)
        noise = np.random.default_rng(1).choice(self.residuals, len(logs))
        return _exp(_interval(logs + noise))


class LawIntervals(NamedTuple):
    """An interval for each unknown."""

    irreducible: Interval
    parameters: Interval
    tokens: Interval
    alpha: Interval
    beta: Interval


def fit(points: Sequence[Trained], name: str) -> ScalingFit:
    """Fit the law to finished trainings.

    The bootstrap keeps the sizes and lengths, which were chosen, and draws residuals anew (Efron & Tibshirani 1993,
    "An Introduction to the Bootstrap", section 9.5); they are scaled up, since a fit makes them too small.

    Args:
        points: of at least `FEWEST_SIZES` sizes and `FEWEST_LENGTHS` lengths, and more than `UNKNOWNS`.
        name: of the law, in texts.

    Raises:
        PlanError: there are too few points, or a training diverged.
    """
    refuse_diverged(points)
    sizes, lengths = {point.parameters for point in points}, {point.tokens for point in points}
    if len(sizes) < FEWEST_SIZES or len(lengths) < FEWEST_LENGTHS or len(points) <= UNKNOWNS:
        raise PlanError(
            f"{len(points)} trainings of {len(sizes)} sizes and {len(lengths)} lengths do not determine a law of five "
            f"unknowns; train at least {FEWEST_SIZES} rungs"
        )
    data = _Data.of(points)
    starts = _starts(data)
    best = _best(data, _minimize(data, starts, np.tile(data.logs, (len(starts), 1))), data.logs[None])[0]
    fitted = data.predict(best[None])[0]
    residuals = data.logs - fitted
    residuals = (residuals - residuals.mean()) * np.sqrt(len(points) / (len(points) - UNKNOWNS))
    drawn = fitted + np.random.default_rng(0).choice(residuals, (_REPLICAS, len(points)))
    few = np.concatenate([best[None], starts[:: len(starts) // 3]])
    begin = np.tile(few, (_REPLICAS, 1))
    replicas = _best(data, _minimize(data, begin, np.repeat(drawn, len(few), axis=0)), drawn)
    law = LossFit(name, *_law(data.original(best[None])[0]), min(sizes), min(lengths))
    return ScalingFit(law, residuals, data.original(replicas))


def refuse_diverged(points: Iterable[Trained]) -> None:
    """Check that all trainings have a loss that a law can be fitted to.

    Raises:
        PlanError: a loss is no positive number.
    """
    for point in points:
        if not (math.isfinite(point.loss) and point.loss > 0):
            raise PlanError(
                f"{point.name}: its held-out loss is {point.loss}, to which no law can be fitted, so its training "
                "probably diverged; lower optimizer.learning_rate.peak, and give another --folder"
            )


@dataclass(frozen=True)
class _Data:
    """Centered logarithms, which make the unknowns nearly independent of each other."""

    n: Array
    d: Array
    logs: Array
    """ln loss; [points], like the other two."""
    center: tuple[float, float]

    @classmethod
    def of(cls, points: Sequence[Trained]) -> _Data:
        n, d, logs = np.log(np.array([point[:3] for point in points], np.float64)).T
        return cls(n - n.mean(), d - d.mean(), logs, (float(n.mean()), float(d.mean())))

    def terms(self, unknowns: Array) -> tuple[Array, Array, Array]:
        """Logarithms of the three terms, [rows, points] each."""
        a, b, e, log_alpha, log_beta = unknowns.T[:, :, None]
        return a - np.exp(log_alpha) * self.n, b - np.exp(log_beta) * self.d, e + 0 * self.n

    def predict(self, unknowns: Array) -> Array:
        """Fitted ln loss, [rows, points]."""
        found: Array = np.logaddexp.reduce(self.terms(unknowns))
        return found

    def slopes(self, unknowns: Array) -> tuple[Array, Array]:
        """Fitted ln loss [rows, points], and its derivatives [rows, points, 5]."""
        terms = self.terms(unknowns)
        found = np.logaddexp.reduce(terms)
        of_size, of_length, rest = (np.exp(term - found) for term in terms)
        alpha, beta = np.exp(unknowns[:, 3:4]), np.exp(unknowns[:, 4:5])
        columns = of_size, of_length, rest, -of_size * alpha * self.n, -of_length * beta * self.d
        return found, np.stack(columns, axis=-1)

    def original(self, unknowns: Array) -> Array:
        """The unknowns ln A, ln B, ln E, alpha and beta, of N and D that are not centered, [rows, 5]."""
        found = unknowns.copy()
        found[:, 3:] = np.exp(unknowns[:, 3:])
        found[:, :2] += found[:, 3:] * np.array(self.center)
        return found


def _starts(data: _Data) -> Array:
    """The grid, [starts, 5]."""
    lowest, mean = np.exp(data.logs.min()), np.exp(data.logs.mean())
    found = []
    for part, of_size, alpha, beta in product(_IRREDUCIBLE, _OF_SIZE, _EXPONENTS, _EXPONENTS):
        rest = part * lowest
        terms = np.log([of_size * (mean - rest), (1 - of_size) * (mean - rest), rest])
        found.append([*terms, np.log(alpha), np.log(beta)])
    return np.array(found)


def _minimize(data: _Data, starts: Array, observed: Array) -> Array:
    """Levenberg-Marquardt with Huber's weights, for all rows at once; rows that no longer improve leave.

    Args:
        data: of the points.
        starts: the unknowns to start from, [rows, 5].
        observed: ln loss that each row is fitted to, [rows, points].
    """
    found, rows, damping = starts.copy(), np.arange(len(starts)), np.full(len(starts), 1e-2)
    lowest = _objective(observed - data.predict(found))
    for _ in range(_STEPS):
        unknowns = found[rows]
        step = _step(data, unknowns, observed[rows], damping)
        tried = unknowns + np.clip(step, -1, 1)
        tried[:, 3:] = np.minimum(tried[:, 3:], np.log(MOST_EXPONENT))
        reached = _objective(observed[rows] - data.predict(tried))
        better = reached < lowest
        ends = np.where(better, lowest - reached < _NO_GAIN * lowest, damping > _MOST_DAMPING)
        found[rows[better]], lowest = tried[better], np.where(better, reached, lowest)
        damping = np.where(better, damping / 4, damping * 4)
        rows, lowest, damping = rows[~ends], lowest[~ends], damping[~ends]
        if not len(rows):
            break
    return found


def _step(data: _Data, unknowns: Array, observed: Array, damping: Array) -> Array:
    """The next step of each row, [rows, 5]."""
    fitted, slopes = data.slopes(unknowns)
    missed = observed - fitted
    weighted = slopes * (_HUBER / np.maximum(np.abs(missed), _HUBER))[..., None]
    normal = np.swapaxes(weighted, 1, 2) @ slopes
    at = range(UNKNOWNS)
    normal[:, at, at] = normal[:, at, at] * (1 + damping[:, None]) + 1e-15
    right = np.swapaxes(weighted, 1, 2) @ missed[..., None]
    return np.asarray(np.linalg.solve(normal, right)[..., 0], np.float64)


def _objective(missed: Array) -> Array:
    """Sum of Huber's loss over points, [rows]."""
    size: Array = np.abs(missed)
    found: Array = np.where(size < _HUBER, size**2 / 2, _HUBER * (size - _HUBER / 2)).sum(axis=-1)
    return found


def _best(data: _Data, unknowns: Array, observed: Array) -> Array:
    """Of the equally many rows that were fitted to each observation, those with the lowest objective, [groups, 5]."""
    by_group = unknowns.reshape(len(observed), -1, UNKNOWNS)
    reached = [_objective(logs - data.predict(rows)).argmin() for logs, rows in zip(observed, by_group, strict=True)]
    rows: Array = by_group[np.arange(len(observed)), reached]
    return rows


def _law(unknowns: Array) -> tuple[float, float, float, float, float]:
    """E, A, B, alpha and beta."""
    size, length, rest, alpha, beta = unknowns.tolist()
    return float(np.exp(rest)), float(np.exp(size)), float(np.exp(length)), alpha, beta


def _interval(values: Array) -> Interval:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    return Interval(low, high)


def _exp(interval: Interval) -> Interval:
    return Interval(float(np.exp(interval.low)), float(np.exp(interval.high)))
