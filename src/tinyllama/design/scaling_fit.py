"""A law of the final loss, fitted to trainings, and how sure its predictions are.

It is the sum of Hoffmann et al. 2022, E + A/N^alpha + B/D^beta, or has the form of Kaplan et al. 2020, (A/N^alpha +
B/D)^gamma: whichever misses the trainings less, for its number of unknowns. The sum holds for large models. Of small
models that have seen few tokens, the smaller gain less from more of them, and only the second form has this.

The objective is that of Hoffmann et al. 2022 ("Training Compute-Optimal Large Language Models", approach 3): Huber's
loss of the residuals of the logarithm of the loss, from a grid of starts. They minimize it with L-BFGS; for so few
unknowns, Levenberg-Marquardt with Huber's weights finds the same minima to more digits.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import reduce
from itertools import product
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

import numpy as np

from tinyllama.design.rules import LossFit
from tinyllama.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

UNKNOWNS = 5
"""Of the sum; the other form has one less."""
FEWEST_SIZES, FEWEST_LENGTHS = 3, 3
"""Numbers of parameters, and of tokens, below which E cannot be told from the terms that fall."""
CONFIDENCE = 0.9
"""Part of the replicas inside an interval."""
_HUBER = 1e-2
"""Residuals of the logarithm beyond which they count linearly. Hoffmann et al. 2022 have 1e-3 for hundreds of
trainings; of so few, those within a percent must count in full, or the law goes through five of them and ignores the
others."""
_REPLICAS = 300
_ABSORBED = 3
"""Degrees of freedom of the sizes' common errors that a fit absorbs: A, alpha and the level."""
_STEPS = 120
_NO_GAIN, _MOST_DAMPING = 1e-7, 1e6
"""Relative gain of a step, and damping without one, at which a row has converged."""
_EXPONENTS = (0.15, 0.4, 1.0)
"""Of alpha, beta and gamma at the starts."""
_IRREDUCIBLE, _OF_SIZE = (0.2, 0.5, 0.8), (0.25, 0.75)
"""At the starts: E as a part of the lowest loss; the term of parameters as a part of what is left of the mean."""
MOST_EXPONENT = 3.0
"""Of every exponent: beyond, a term would act at the smallest models or the shortest trainings alone."""


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
    """ln(measured / fitted loss) of each point, [points]; scaled up by what the unknowns take away."""
    replicas: Array
    """ln A, ln B, E, alpha, beta and gamma of each replica, [replicas, 6]."""
    errors: Array
    """ln(measured / expected loss) of one more training, [replicas]."""

    @property
    def _of_form(self) -> NDArray[np.bool_]:
        """Which replicas have the law's form."""
        found: NDArray[np.bool_] = (self.replicas[:, 5] != 1) == self.law.is_joint
        return found

    @property
    def form_share(self) -> float:
        """Part of the replicas that have the law's form, and not the other one."""
        return float(self._of_form.mean())

    @property
    def intervals(self) -> LawIntervals:
        """How sure each of the unknowns is, if the law has the right form."""
        rows = self.replicas[self._of_form] if self._of_form.any() else self.replicas
        size, length, rest, alpha, beta, gamma = (_interval(column) for column in rows.T)
        return LawIntervals(rest, _exp(size), _exp(length), alpha, beta, gamma)

    @property
    def typical_error(self) -> float:
        """Root mean square of the relative residuals."""
        return float(np.sqrt(np.mean(self.residuals**2)))

    def interval(self, parameters: float, tokens: float) -> Interval:
        """Between what the loss of one more training probably is: the law's uncertainty and the noise of a training.

        What lies beyond the law, such as a term that it lacks, is in no interval.
        """
        size, length, rest, alpha, beta, gamma = self.replicas.T
        n, d = np.log(parameters), np.log(tokens)
        logs = np.log(rest + np.exp(gamma * np.logaddexp(size - alpha * n, length - beta * d)))
        return _exp(_interval(logs + self.errors))


class LawIntervals(NamedTuple):
    """An interval for each unknown."""

    irreducible: Interval
    parameters: Interval
    tokens: Interval
    alpha: Interval
    beta: Interval
    gamma: Interval


def fit(points: Sequence[Trained], name: str) -> ScalingFit:
    """Fit the law to finished trainings.

    The bootstrap keeps the sizes and lengths, which were chosen, and draws residuals anew (Efron & Tibshirani 1993,
    "An Introduction to the Bootstrap", section 9.5); they are scaled up, since a fit makes them too small. Trainings of
    a size share its seed and its rounded proportions. The fit takes most of this error; what is left of it, the mean of
    a size's residuals, is scaled up and drawn besides. Each replica has the form that suits it.

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
    forms = [(form, _fitted(form)) for form in (_Sum.of(points), _Joint.of(points))]
    form, best = min(forms, key=lambda pair: pair[0].misfit(pair[1], pair[0].logs[None])[0])
    fitted = form.predict(best)[0]
    residuals = form.logs - fitted
    residuals = (residuals - residuals.mean()) * np.sqrt(len(points) / (len(points) - form.unknowns))
    common = _common(residuals, form.n)
    errors = _draw(residuals, common, np.append(form.n, np.inf))  # the last one is of another size
    replicas = _replicas(forms, fitted + errors[:, :-1])
    size, length, rest, alpha, beta, gamma = form.original(best)[0].tolist()
    law = LossFit(name, rest, math.exp(size), math.exp(length), alpha, beta, min(sizes), min(lengths), gamma=gamma)
    return ScalingFit(law, residuals, replicas, errors[:, -1])


def _fitted(form: _Form) -> Array:
    """The unknowns with which a form misses the trainings least, [1, unknowns]."""
    starts = form.starts()
    found = _minimize(form, starts, np.tile(form.logs, (len(starts), 1)))
    return _best(form, found, form.logs[None])


def _common(residuals: Array, n: Array) -> Array:
    """What the errors of a size have in common, for each size of several trainings, scaled up for what a fit absorbs.

    Of three sizes and fewer, one degree of freedom is assumed to be left.
    """
    sizes, counts = np.unique(n, return_counts=True)
    means = [residuals[n == size].mean() for size in sizes[counts > 1]] or [0.0]
    found: Array = np.array(means) * np.sqrt(len(means) / max(1, len(means) - _ABSORBED))
    return found


def _draw(residuals: Array, common: Array, n: Array) -> Array:
    """Errors of trainings of these sizes, [replicas, points]: each has a residual, and what its size has in common."""
    draws, size_of = np.random.default_rng(0), np.unique(n, return_inverse=True)[1]
    shape = _REPLICAS, size_of.max() + 1
    of_size = draws.choice(common, shape) * draws.choice((-1, 1), shape)
    errors: Array = draws.choice(residuals, (_REPLICAS, len(n))) + of_size[:, size_of]
    return errors


def _replicas(forms: Sequence[tuple[_Form, Array]], drawn: Array) -> Array:
    """The numbers of the form that misses each replica least, [replicas, 6]."""
    numbers, misfits = [], []
    for form, best in forms:
        starts = form.starts()
        few = np.concatenate([best, starts[np.linspace(0, len(starts) - 1, 3).astype(int)]])
        found = _minimize(form, np.tile(few, (len(drawn), 1)), np.repeat(drawn, len(few), axis=0))
        found = _best(form, found, drawn)
        numbers.append(form.original(found))
        misfits.append(form.misfit(found, drawn))
    taken: Array = np.stack(numbers)[np.argmin(misfits, axis=0), np.arange(len(drawn))]
    return taken


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
class _Form(ABC):
    """A form of the law, and the trainings as centered logarithms, which make the unknowns nearly independent."""

    unknowns: ClassVar[int]
    exponents: ClassVar[slice]
    """Which of the unknowns are logarithms of exponents."""
    n: Array
    d: Array
    logs: Array
    """ln loss; [points], like the other two."""
    center: tuple[float, float]

    @classmethod
    def of(cls, points: Sequence[Trained]) -> Self:
        n, d, logs = np.log(np.array([point[:3] for point in points], np.float64)).T
        return cls(n - n.mean(), d - d.mean(), logs, (float(n.mean()), float(d.mean())))

    def misfit(self, rows: Array, observed: Array) -> Array:
        """Objectives of rows that are fitted to observations, by the points that their unknowns leave, [rows]."""
        return _objective(observed - self.predict(rows)) / (len(self.logs) - self.unknowns)

    @abstractmethod
    def starts(self) -> Array:
        """The grid of unknowns to start from, [starts, unknowns]."""

    @abstractmethod
    def predict(self, rows: Array) -> Array:
        """Fitted ln loss, [rows, points]."""

    @abstractmethod
    def slopes(self, rows: Array) -> tuple[Array, Array]:
        """Fitted ln loss [rows, points], and its derivatives [rows, unknowns, points]."""

    @abstractmethod
    def original(self, rows: Array) -> Array:
        """The numbers ln A, ln B, E, alpha, beta and gamma, of N and D that are not centered, [rows, 6]."""


class _Sum(_Form):
    """E + A/N^alpha + B/D^beta; unknown are ln A, ln B, ln E, ln alpha and ln beta."""

    unknowns, exponents = UNKNOWNS, slice(3, None)

    def starts(self) -> Array:
        lowest, mean = np.exp(self.logs.min()), np.exp(self.logs.mean())
        found = []
        for part, of_size, alpha, beta in product(_IRREDUCIBLE, _OF_SIZE, _EXPONENTS, _EXPONENTS):
            rest = part * lowest
            terms = np.log([of_size * (mean - rest), (1 - of_size) * (mean - rest), rest])
            found.append([*terms, np.log(alpha), np.log(beta)])
        return np.array(found)

    def predict(self, rows: Array) -> Array:
        return _log_sum(*self._terms(rows))[0]

    def slopes(self, rows: Array) -> tuple[Array, Array]:
        alpha, beta = np.exp(rows.T[3:, :, None])
        found, (of_size, of_length, rest) = _log_sum(*self._terms(rows))
        columns = of_size, of_length, rest, -of_size * alpha * self.n, -of_length * beta * self.d
        return found, np.stack(columns, axis=1)

    def _terms(self, rows: Array) -> tuple[Array, Array, Array]:
        a, b, e = rows.T[:3, :, None]
        alpha, beta = np.exp(rows.T[3:, :, None])
        return a - alpha * self.n, b - beta * self.d, e

    def original(self, rows: Array) -> Array:
        a, b, e = rows.T[:3]
        alpha, beta = np.exp(rows.T[3:])
        n, d = self.center
        return np.stack([a + alpha * n, b + beta * d, np.exp(e), alpha, beta, np.ones_like(a)], axis=-1)


class _Joint(_Form):
    """(A/N^alpha + B/D)^gamma; unknown are ln A, ln B, ln gamma and ln alpha."""

    unknowns, exponents = 4, slice(2, None)

    def starts(self) -> Array:
        mean = self.logs.mean()
        return np.array(
            [
                [np.log(of_size) + mean / gamma, np.log(1 - of_size) + mean / gamma, np.log(gamma), np.log(alpha)]
                for of_size, gamma, alpha in product(_OF_SIZE, _EXPONENTS, _EXPONENTS)
            ]
        )

    def predict(self, rows: Array) -> Array:
        return self.slopes(rows)[0]

    def slopes(self, rows: Array) -> tuple[Array, Array]:
        a, b = rows.T[:2, :, None]
        gamma, alpha = np.exp(rows.T[2:, :, None])
        inner, parts = _log_sum(a - alpha * self.n, b - self.d)
        of_size, of_length = (gamma * part for part in parts)
        return gamma * inner, np.stack([of_size, of_length, gamma * inner, -of_size * alpha * self.n], axis=1)

    def original(self, rows: Array) -> Array:
        a, b = rows.T[:2]
        gamma, alpha = np.exp(rows.T[2:])
        n, d = self.center
        one = np.ones_like(a)
        return np.stack([a + alpha * n, b + d, 0 * one, alpha, one, gamma], axis=-1)


def _log_sum(*terms: Array) -> tuple[Array, list[Array]]:
    """The logarithm of the sum of terms, which are logarithms, and the part of each in the sum."""
    most = reduce(np.maximum, terms)
    powers = [np.exp(term - most) for term in terms]
    total: Array = sum(powers[1:], powers[0])
    return most + np.log(total), [power / total for power in powers]


def _minimize(form: _Form, starts: Array, observed: Array) -> Array:
    """Levenberg-Marquardt with Huber's weights, for all rows at once; rows that no longer improve leave.

    Args:
        form: of the law.
        starts: the unknowns to start from, [rows, unknowns].
        observed: ln loss that each row is fitted to, [rows, points].
    """
    found, rows, damping = starts.copy(), np.arange(len(starts)), np.full(len(starts), 1e-2)
    lowest = _objective(observed - form.predict(found))
    for _ in range(_STEPS):
        unknowns = found[rows]
        step = _step(form, unknowns, observed[rows], damping)
        tried = unknowns + np.clip(step, -1, 1)
        tried[:, form.exponents] = np.minimum(tried[:, form.exponents], np.log(MOST_EXPONENT))
        reached = _objective(observed[rows] - form.predict(tried))
        better = reached < lowest
        ends = np.where(better, lowest - reached < _NO_GAIN * lowest, damping > _MOST_DAMPING)
        found[rows[better]], lowest = tried[better], np.where(better, reached, lowest)
        damping = np.where(better, damping / 4, damping * 4)
        rows, lowest, damping = rows[~ends], lowest[~ends], damping[~ends]
        if not len(rows):
            break
    return found


def _step(form: _Form, unknowns: Array, observed: Array, damping: Array) -> Array:
    """The next step of each row, [rows, unknowns]."""
    fitted, slopes = form.slopes(unknowns)
    missed = observed - fitted
    weighted = slopes * (_HUBER / np.maximum(np.abs(missed), _HUBER))[:, None]
    normal = weighted @ np.swapaxes(slopes, 1, 2)
    at = range(form.unknowns)
    normal[:, at, at] = normal[:, at, at] * (1 + damping[:, None]) + 1e-15
    right = weighted @ missed[..., None]
    return np.asarray(np.linalg.solve(normal, right)[..., 0], np.float64)


def _objective(missed: Array) -> Array:
    """Sum of Huber's loss over points, the last axis."""
    size: Array = np.abs(missed)
    found: Array = np.where(size < _HUBER, size**2 / 2, _HUBER * (size - _HUBER / 2)).sum(axis=-1)
    return found


def _best(form: _Form, unknowns: Array, observed: Array) -> Array:
    """Of as many rows for each observation, those with the lowest objective, [observations, unknowns]."""
    by_group = unknowns.reshape(len(observed), -1, form.unknowns)
    fitted = form.predict(unknowns).reshape(*by_group.shape[:2], -1)
    reached = _objective(observed[:, None] - fitted).argmin(axis=1)
    rows: Array = by_group[np.arange(len(observed)), reached]
    return rows


def _interval(values: Array) -> Interval:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    return Interval(low, high)


def _exp(interval: Interval) -> Interval:
    return Interval(float(np.exp(interval.low)), float(np.exp(interval.high)))
