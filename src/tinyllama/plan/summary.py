"""The summary of a plan, for people and programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from tinyllama.plan.epochs import MANY_EPOCHS
from tinyllama.plan.measurements import measured_tokens
from tinyllama.plan.schedule import share_at

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tinyllama.files import Json
    from tinyllama.plan.table import Plan
    from tinyllama.recipe import Recipe


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
    context: int
    """Tokens of a sequence."""
    positions: str
    """How they are rotated, in words; empty where a stage leaves this and the context to the model."""
    learning_rate_factor: float
    first_lr: float
    last_lr: float
    shares_at_start: dict[str, float]
    shares_at_end: dict[str, float]


@dataclass(frozen=True)
class CorpusSummary:
    """What one corpus gives to one variant in sequences of one context, base included."""

    name: str
    """The corpus, and the context where it is not the model's own."""
    context: int
    """Tokens of a sequence."""
    sequences: int
    tokens: int
    size: int | None
    """Training tokens; None before it is prepared, if the recipe states no size."""
    epochs: float | None
    """Of these sequences; None for a corpus of unknown size."""
    too_many_epochs: bool
    """Whether all sequences of the corpus together are too many."""
    met_again: int
    """Tokens among these that sequences of other contexts had met before, as expected of independent orders."""


@dataclass(frozen=True)
class PlanSummary:
    """A plan's stages and corpora."""

    recipe: str
    variant: str | None
    steps: int
    tokens: int
    learning_rate: str
    past_horizon: int
    """Tokens of the steps that begin at the horizon of the learning rate or after it; 0 without a horizon."""
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
    scored_at: list[int]
    """Tokens of the checkpoints that get task scores during training; empty if the recipe asks for none."""
    sampled_at: list[int]
    """Tokens of the checkpoints that continue the prompts during training; empty if the recipe asks for none."""

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
    evaluation = recipe.evaluation
    scored = measured_tokens(plan, recipe, evaluation.tasks_every)
    sampled = measured_tokens(plan, recipe, evaluation.samples_every)
    recipe = recipe.line(plan.variant)
    stages = []
    for index, (name, first, end) in enumerate(plan.stage_steps()):
        batch = int(plan.batch[first])
        forked = plan.variant if index >= recipe.fork_index else None
        before, after = plan.tokens_after(first), plan.tokens_after(end)
        stage, shape = recipe.stages[index], recipe.stages[index].shape(recipe.model)
        stages.append(
            StageSummary(
                name=name,
                first_step=first,
                end_step=end,
                tokens_before=before,
                tokens_after=after,
                batch_sequences=batch,
                batch_tokens=batch * int(plan.contexts[first]),
                context=int(plan.contexts[first]),
                positions="" if shape == recipe.model else f"RoPE base {shape.rope_theta:,.0f}{shape.scaled_positions}",
                learning_rate_factor=stage.learning_rate_factor,
                first_lr=float(plan.lr[first]),
                last_lr=float(plan.lr[end - 1]),
                shares_at_start=share_at(recipe, forked, before + (0 if stage.ramp else 1)),
                shares_at_end=share_at(recipe, forked, after),
            )
        )
    rate = recipe.optimizer.learning_rate
    known = {name: (sizes or {}).get(name, recipe.corpora[name].size) for name in plan.corpora}
    return PlanSummary(
        recipe=recipe.name,
        variant=plan.variant,
        steps=plan.steps,
        tokens=plan.tokens_after(plan.steps),
        learning_rate=rate.describe(),
        past_horizon=0 if rate.horizon is None else _tokens_from(plan, rate.horizon),
        stages=stages,
        corpora=_corpora(plan, known),
        parameters=recipe.model.parameters,
        optimizer=recipe.describe_optimizer(),
        average=None if recipe.average is None else recipe.average.describe(),
        parent=parent,
        fork_step=fork,
        fork_tokens=plan.tokens_after(fork),
        scored_at=scored,
        sampled_at=sorted({*scored, *sampled}) if sampled else [],
    )


def _corpora(plan: Plan, sizes: Mapping[str, int | None]) -> list[CorpusSummary]:
    """What each corpus gives in sequences of each context.

    A context has orders of its own, so what others met before is expected to be the same part of all its sequences.
    """
    found: list[CorpusSummary] = []
    unmet = dict.fromkeys(plan.corpora, 1.0)
    totals = np.einsum("sc,s->c", plan.counts, plan.contexts, dtype=np.int64).tolist()
    whole = {corpus: _epochs(total, sizes[corpus]) or 0 for corpus, total in zip(plan.corpora, totals, strict=True)}
    for name, (corpus, context) in plan.partitions.items():
        own = plan.counts[plan.contexts == context, plan.corpora.index(corpus)]
        sequences, size = int(own.sum(dtype=np.int64)), sizes[corpus]
        tokens = sequences * context
        if context != plan.context and not tokens:
            continue  # it does not enter
        met_again = round(tokens * (1 - unmet[corpus]))
        epochs = _epochs(tokens, size)
        unmet[corpus] *= 1 - min(1.0, epochs or 0)
        many = whole[corpus] > MANY_EPOCHS
        found.append(CorpusSummary(name, context, sequences, tokens, size, epochs, many, met_again))
    return found


def _tokens_from(plan: Plan, tokens: int) -> int:
    """Tokens of the steps that begin when `tokens` tokens are seen, or later."""
    first = min(plan.steps, int(np.searchsorted(plan.tokens, tokens)) + 1)
    return plan.tokens_after(plan.steps) - plan.tokens_after(first)


def _epochs(tokens: int, size: int | None) -> float | None:
    return None if size is None else tokens / size
