"""Schedules as pure functions of tokens seen: learning rate and shares."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tinyllama.errors import PlanError
from tinyllama.layout import BASE
from tinyllama.plan.learning_rate import learning_rate

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction

    from numpy.typing import NDArray

    from tinyllama.recipe import Recipe


def planned_rate(recipe: Recipe, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """The recipe's learning rate at numbers of tokens seen.

    Its schedule, times the factor of the stage and the rise after a start's re-warm-up.
    """
    rates = learning_rate(recipe.optimizer.learning_rate, tokens) * _stage_factors(recipe, tokens)
    if recipe.start is None or recipe.start.rewarm == 0:
        return rates
    since = tokens - recipe.start_tokens
    return rates * np.clip(since / recipe.start.rewarm, 0.0, 1.0)


def _stage_factors(recipe: Recipe, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """The factor of the stage in which a step ends that reaches a number of tokens."""
    ends = np.array(stage_ends(recipe)[:-1], np.int64)
    return np.array([stage.learning_rate_factor for stage in recipe.stages])[np.searchsorted(ends, tokens)]


def stage_ends(recipe: Recipe) -> list[int]:
    """Tokens seen at the end of each stage: the first whole step that reaches its boundary.

    Raises:
        PlanError: a stage would have no step, because the one before it already passes its boundary.
    """
    ends, seen = recipe.end_tokens, recipe.start_tokens
    for index, (stage, end) in enumerate(zip(recipe.stages, ends, strict=True)):
        if end == seen:
            raise PlanError(
                f"{recipe.name}: stages.{index}.until: stage {stage.name} has no step, since the last step of the "
                f"stage before it already reaches {stage.until} tokens; let it end later, or make the batch before it "
                "smaller"
            )
        seen = end
    return ends


class Change(NamedTuple):
    """A change of the shares from a stage on, in tokens seen since the plan's start."""

    stage: int
    start: int
    ramp: int
    before: Mapping[str, Fraction]
    after: Mapping[str, Fraction]


def share_changes(recipe: Recipe, variant: str | None) -> list[Change]:
    """The changes of a model's shares in order; the first is no change, but the base's shares from the start.

    Raises:
        PlanError: a ramp has not ended where the next change begins, or where the context changes.
    """
    recipe = recipe.line(variant)
    starts = [0, *(end - recipe.start_tokens for end in stage_ends(recipe))]
    before: Mapping[str, Fraction] = recipe.base
    changes: list[Change] = []
    for count, (index, after) in enumerate(recipe.path_shares(variant or BASE)):
        if changes and changes[-1].start + changes[-1].ramp > starts[index]:
            raise PlanError(
                f"{recipe.name}: stages.{index}.shares: the ramp before has not ended, since steps are whole, when "
                f"stage {recipe.stages[index].name} begins; make that ramp shorter by a step"
            )
        changes.append(Change(index, starts[index], recipe.stages[index].ramp if count else 0, before, after))
        before = after
    for index, (one, other) in enumerate(pairwise(recipe.stages), 1):
        ramp_end = max(change.start + change.ramp for change in changes if change.stage < index)
        if recipe.context(one) != recipe.context(other) and ramp_end > starts[index]:
            raise PlanError(
                f"{recipe.name}: stages.{index}.context: the ramp before reaches into stage {other.name}, since steps "
                "are whole, and a ramp has one context; make that ramp shorter by a step"
            )
    return changes


def share_at(recipe: Recipe, variant: str | None, tokens: float) -> dict[str, float]:
    """Planned share of each corpus at a number of tokens seen; None is the base alone."""
    first, *later = share_changes(recipe, variant)
    seen = tokens - recipe.start_tokens
    change = next((change for change in reversed(later) if change.start < seen), first)
    progress = min(1.0, (seen - change.start) / change.ramp) if change.ramp else 1.0
    shares = {}
    for name in recipe.corpora:
        before, after = (float(part.get(name, 0)) for part in (change.before, change.after))
        shares[name] = before + (after - before) * progress
    return shares
