"""Schedules as pure functions of tokens seen: learning rate and shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tinyllama.errors import PlanError
from tinyllama.plan.learning_rate import learning_rate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tinyllama.recipe import Recipe


def planned_rate(recipe: Recipe, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """The recipe's learning rate at numbers of tokens seen: its schedule, times the rise after a start's re-warm-up."""
    rates = learning_rate(recipe.optimizer.learning_rate, tokens)
    if recipe.start is None or recipe.start.rewarm == 0:
        return rates
    since = tokens - recipe.start_sequences * recipe.model.context
    return rates * np.clip(since / recipe.start.rewarm, 0.0, 1.0)


def fork_sequences(recipe: Recipe) -> int:
    """Sequences seen when variants leave the base."""
    return [recipe.start_sequences, *stage_ends(recipe)][recipe.fork_index]


def stage_ends(recipe: Recipe) -> list[int]:
    """Sequences seen at the end of each stage: the first whole step that reaches its boundary.

    Raises:
        PlanError: a stage would have no step, because the one before it already passes its boundary.
    """
    context, seen = recipe.model.context, recipe.start_sequences
    ends: list[int] = []
    for index, stage in enumerate(recipe.stages):
        batch = recipe.batch_sequences(stage)
        steps = -(-(stage.until - seen * context) // (batch * context))
        if steps <= 0:
            raise PlanError(
                f"{recipe.name}: stages.{index}.until: stage {stage.name} has no step, since the last step of the "
                f"stage before it already reaches {stage.until} tokens; let it end later, or make the batch before it "
                "smaller"
            )
        seen += steps * batch
        ends.append(seen)
    return ends


def share_at(recipe: Recipe, variant: str | None, tokens: float) -> dict[str, float]:
    """Planned share of each corpus at a number of tokens seen; None is the base alone."""
    shares = {name: float(recipe.base.get(name, 0)) for name in recipe.corpora}
    fork_tokens = fork_sequences(recipe) * recipe.model.context
    if variant is None or tokens <= fork_tokens:
        return shares
    ramp = recipe.stages[recipe.fork_index].ramp
    progress = min(1.0, (tokens - fork_tokens) / ramp) if ramp else 1.0
    target = recipe.variants[variant]
    return {name: share + (float(target.get(name, 0)) - share) * progress for name, share in shares.items()}
