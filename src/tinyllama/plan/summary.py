"""The summary of a plan, for people and programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from tinyllama.plan.schedule import share_at

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tinyllama.files import Json
    from tinyllama.plan.table import Plan
    from tinyllama.recipe import Recipe

MANY_EPOCHS = 4.0
"""Repeating text up to about 4 times is nearly as good as new text (Muennighoff et al. 2023)."""


@dataclass(frozen=True)
class StageSummary:
    """One stage of one variant."""

    name: str
    first_step: int
    end_step: int
    tokens_before: int
    tokens_after: int
    batch_sequences: int
    batch_tokens: int
    first_lr: float
    last_lr: float
    shares_at_start: dict[str, float]
    shares_at_end: dict[str, float]


@dataclass(frozen=True)
class CorpusSummary:
    """What one corpus gives to one variant, base included."""

    name: str
    sequences: int
    tokens: int
    size: int | None
    """Training tokens; None before it is prepared, if the recipe states no size."""
    epochs: float | None
    too_many_epochs: bool


@dataclass(frozen=True)
class PlanSummary:
    """A plan's stages and corpora."""

    recipe: str
    variant: str | None
    steps: int
    tokens: int
    learning_rate: str
    stages: list[StageSummary]
    corpora: list[CorpusSummary]
    parameters: int
    """Weights of the model."""
    optimizer: str
    """Its kind and constants, in words."""
    average: str | None
    """Of the weights, in words; None without one."""
    parent: str | None
    """The model that it forks from; None for the base."""
    fork_step: int
    """Steps of its parent's path that it begins with; 0 for the base."""
    fork_tokens: int
    """Tokens seen at the fork."""

    def as_dict(self) -> dict[str, Json]:
        """Plain data for JSON."""
        return asdict(self)


def summarize(plan: Plan, recipe: Recipe, sizes: Mapping[str, int] | None = None) -> PlanSummary:
    """Summarize a plan.

    Args:
        plan: compiled from `recipe`.
        recipe: the recipe.
        sizes: training tokens of prepared corpora; the recipe's estimates stand in for the others.
    """
    parent = None if plan.variant is None else recipe.parent(plan.variant)
    fork = 0 if parent is None else plan.fork_step
    recipe = recipe.line(plan.variant)
    stages = []
    for index, (name, first, end) in enumerate(plan.stage_steps()):
        batch = int(plan.batch[first])
        forked = plan.variant if index >= recipe.fork_index else None
        before, after = plan.tokens_after(first), plan.tokens_after(end)
        stages.append(
            StageSummary(
                name=name,
                first_step=first,
                end_step=end,
                tokens_before=before,
                tokens_after=after,
                batch_sequences=batch,
                batch_tokens=batch * plan.context,
                first_lr=float(plan.lr[first]),
                last_lr=float(plan.lr[end - 1]),
                shares_at_start=share_at(recipe, forked, before + (0 if recipe.stages[index].ramp else 1)),
                shares_at_end=share_at(recipe, forked, after),
            )
        )
    totals = plan.counts.sum(axis=0, dtype=np.int64)
    corpora = []
    for name, sequences in zip(plan.corpora, totals.tolist(), strict=True):
        size = (sizes or {}).get(name, recipe.corpora[name].size)
        tokens = sequences * plan.context
        epochs = None if size is None else tokens / size
        corpora.append(CorpusSummary(name, sequences, tokens, size, epochs, (epochs or 0.0) > MANY_EPOCHS))
    return PlanSummary(
        recipe=recipe.name,
        variant=plan.variant,
        steps=plan.steps,
        tokens=plan.tokens_after(plan.steps),
        learning_rate=recipe.optimizer.learning_rate.describe(),
        stages=stages,
        corpora=corpora,
        parameters=recipe.model.parameters,
        optimizer=recipe.describe_optimizer(),
        average=None if recipe.average is None else recipe.average.describe(),
        parent=parent,
        fork_step=fork,
        fork_tokens=plan.tokens_after(fork),
    )
