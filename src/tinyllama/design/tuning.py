"""Trials of peak learning rates on rungs of a ladder, and the peak of the recipe that follows from them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from tinyllama.design.rungs import narrower, narrowest, small_model
from tinyllama.design.transfer import Transfer
from tinyllama.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tinyllama.design.rungs import Goal, Rung
    from tinyllama.recipe import ModelShape, Recipe

PEAKS, LENGTH = 5, 0.25
"""Peaks to try, each twice the one before, with the recipe's in the middle; tokens of a trial as a part of the
model's."""
MOST_MORE = 3
"""Peaks of a rung beyond these, where the best one is the first or the last."""


class Trial(NamedTuple):
    """A training of a small model."""

    number: int
    """Of its shape among the rungs, from 1, the smallest."""
    exponent: int
    """Its peak is the recipe's times two to this power."""
    peak: float
    """Of the recipe; that of the trial itself is its rung's."""
    seed: int
    rung: Rung


class Best(NamedTuple):
    """The peak of the lowest loss."""

    exponent: float
    """Power of two: where a parabola in the logarithm of the peak is lowest, if both neighbors have a loss."""
    peak: float
    """Of the recipe: its own times two to this power."""
    loss: float
    """The lowest mean that was measured."""
    is_bracketed: bool
    """Whether a lower and a higher peak were tried."""


def usual_transfer(goal: Goal) -> Transfer:
    """MuP where it is possible: tied embeddings rule it out."""
    is_mup = goal.recipe.parametrization == "mup"
    return Transfer.COMPUTE if goal.shape.tied_embeddings and not is_mup else Transfer.MUP


@dataclass(frozen=True)
class Sweep:
    """What all trials have in common."""

    goal: Goal
    transfer: Transfer
    length: float
    """Tokens of a trial, as a part of the model's."""
    rungs: int = 1
    """Number of shapes that are swept; from two on, how the best peak changes with the compute is fitted to them."""

    def __post_init__(self) -> None:
        """Check that peaks transfer.

        Raises:
            PlanError: they do not.
        """
        if self.transfer is Transfer.MUP and self.goal.shape.tied_embeddings:
            raise PlanError(
                "model.tied_embeddings: muP scales head and embeddings differently, so a peak does not transfer by it; "
                "write --transfer compute, or set the key to false"
            )
        if self.transfer is Transfer.COMPUTE and self._is_mup:
            raise PlanError(
                "parametrization: mup transfers peaks by the width, not by the compute; leave out --transfer compute"
            )
        if self.transfer is Transfer.MUP and self.rungs > 1:
            remedy = "" if self._is_mup else ", or write --transfer compute"
            raise PlanError(
                f"--rungs {self.rungs}: several rungs tell how the best peak changes with the compute, and muP keeps "
                f"it; leave the option out{remedy}"
            )

    @property
    def _is_mup(self) -> bool:
        return self.goal.recipe.parametrization == "mup"

    @property
    def shapes(self) -> list[ModelShape]:
        """Of the trials, from the smallest.

        Raises:
            PlanError: the model has fewer narrower ones.
        """
        shape = self.goal.shape
        return [narrowest(shape)] if self.rungs == 1 else narrower(shape, self.rungs)

    @property
    def parametrization(self) -> Mapping[str, str | int]:
        """The keys with which the best peak of a trial is that of the recipe too, where it lacks them."""
        if self.transfer is Transfer.COMPUTE or self._is_mup:
            return {}
        return {"parametrization": "mup", "base_width": self.shapes[0].width}

    def peak(self, exponent: float) -> float:
        """The recipe's peak times two to a power."""
        return float(f"{self.goal.recipe.optimizer.learning_rate.peak * 2**exponent:.3g}")

    def trial(self, exponent: int, seed: int, number: int = 1) -> Trial:
        """A trial.

        Args:
            exponent: its peak is the recipe's times two to this power.
            seed: added to the recipe's.
            number: of its rung, from 1, the smallest.

        Raises:
            PlanError: it would be trained for too few steps, or the model has too few narrower ones.
        """
        peak = self.peak(exponent)
        own = self.goal.recipe.seed + seed
        recipe = _changed(self.goal.recipe, peak, {**self.parametrization, "seed": own})
        rung = f"-rung-{number}" if number > 1 else ""
        name = f"peak-{peak:g}{rung}".replace("+", "") + (f"-seed-{own}" if seed else "")
        tokens = self.length * self.goal.tokens
        goal = replace(self.goal, recipe=recipe)
        shape, keeps_batch = self.shapes[number - 1], self.transfer is Transfer.MUP
        return Trial(number, exponent, peak, own, small_model(goal, name, shape, [tokens], keeps_batch=keeps_batch))

    def keys(self, peak: float) -> dict[str, str | int | float]:
        """The recipe's keys, with dots, and what they must be for a peak; minimums keep their part of it."""
        recipe = self.goal.recipe
        rate = recipe.optimizer.learning_rate
        minimums = {"optimizer.learning_rate.minimum": rate.minimum} | {
            f"branches.{name}.decay.minimum": branch.decay.minimum
            for name, branch in recipe.branches.items()
            if branch.decay is not None
        }
        scaled = {key: float(f"{value * peak / rate.peak:.3g}") for key, value in minimums.items() if value}
        return {**self.parametrization, "optimizer.learning_rate.peak": peak, **scaled}


def _changed(recipe: Recipe, peak: float, keys: Mapping[str, str | int]) -> Recipe:
    """The recipe with another peak, and other keys of its first level."""
    rate = recipe.optimizer.learning_rate.model_copy(update={"peak": peak})
    return recipe.model_copy(update={"optimizer": recipe.optimizer.model_copy(update={"learning_rate": rate}), **keys})


def first_exponents(count: int) -> range:
    """Powers of two of `count` peaks, with the recipe's own in the middle."""
    return range(-(count // 2), count - count // 2)


def next_exponent(losses: Mapping[int, float]) -> int | None:
    """The power to try next, beside the best one; None if both its neighbors were tried, or all diverged.

    Args:
        losses: power of two → mean loss, infinite if training diverged.
    """
    best = _lowest(losses)
    if not math.isfinite(losses[best]):
        return min(losses) - 1
    return next((power for power in (best - 1, best + 1) if power not in losses), None)


def best_peak(sweep: Sweep, losses: Mapping[int, float]) -> Best:
    """The peak that follows from mean losses.

    Args:
        sweep: of the trials.
        losses: power of two → mean loss, infinite if training diverged.

    Raises:
        PlanError: all diverged.
    """
    best = _lowest(losses)
    lowest = losses[best]
    if not math.isfinite(lowest):
        raise PlanError(
            f"the trials diverge at every peak from {sweep.peak(min(losses)):g} to {sweep.peak(max(losses)):g}; lower "
            "optimizer.learning_rate.peak, and give another --folder"
        )
    below, above = (losses.get(power, math.inf) for power in (best - 1, best + 1))
    shift = 0.0
    if math.isfinite(below + above) and below + above > 2 * lowest:
        shift = (below - above) / (below - 2 * lowest + above) / 2
    is_bracketed = best - 1 in losses and best + 1 in losses
    return Best(best + shift, sweep.peak(best + shift), lowest, is_bracketed)


def _lowest(losses: Mapping[int, float]) -> int:
    return min(losses, key=lambda power: (losses[power], power))
