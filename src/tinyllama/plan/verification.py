"""A compiled plan checked against its recipe, step by step, by other arithmetic than the compiler's."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tinyllama.layout import BASE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tinyllama.plan.table import Plan
    from tinyllama.recipe import LearningRate, Recipe

_LR_TOLERANCE = 1e-12
"""Of the peak; two ways to compute a curve differ in the last bits."""


@dataclass(frozen=True)
class Check:
    """One thing that must hold."""

    name: str
    detail: str
    """What was found: the proof in figures, or what is wrong and where."""
    passed: bool


def verify_plan(recipe: Recipe, plan: Plan) -> list[Check]:
    """Check batches, learning rate, bookkeeping and quota at every step of a plan."""
    recipe = recipe.line(plan.variant)
    stated = [stage.name for stage in recipe.stages[: recipe.fork_index if plan.variant is None else None]]
    if list(plan.stages) != stated:
        found = f"its stages are {', '.join(plan.stages)}, those of the recipe {', '.join(stated)}"
        return [Check("stages", found, passed=False)]
    return [_batches(recipe, plan), _learning_rate(recipe, plan), _bookkeeping(plan), _quota(recipe, plan)]


def _batches(recipe: Recipe, plan: Plan) -> Check:
    """Every stage has the recipe's batch and context, and ends with the first step that reaches its boundary."""
    spans = plan.stage_steps()
    for stage, (name, first, end) in zip(recipe.stages, spans, strict=False):
        stated = recipe.batch_sequences(stage)
        if wrong := _first(plan.batch[first:end] != stated):
            step = first + wrong
            return Check(
                "batches", f"step {step}: {plan.batch[step - 1]} sequences, {name} says {stated}", passed=False
            )
        context = recipe.model.context if stage.context is None else stage.context
        if wrong := _first(plan.contexts[first:end] != context):
            found = f"step {first + wrong}: sequences of {plan.contexts[first + wrong - 1]}, {name} says {context}"
            return Check("batches", found, passed=False)
        if not plan.tokens_after(end - 1) < stage.until <= plan.tokens_after(end):
            return Check(
                "batches", f"{name} ends at {plan.tokens_after(end)} tokens, not at {stage.until}", passed=False
            )
    sizes = ", ".join(f"{name} {plan.batch[first]}" for name, first, _ in spans)
    return Check("batches", f"sequences a step as stated: {sizes}", passed=True)


def _learning_rate(recipe: Recipe, plan: Plan) -> Check:
    """The warm-up and schedule of the tokens seen, never restarted, each by another formula than the planner's.

    After an imported start both are scaled by a rise from 0 to 1, where the recipe states one.
    """
    stated = recipe.optimizer.learning_rate
    tokens = plan.tokens
    expected = _scheduled(stated, tokens)
    if stated.warmup:
        expected = np.where(tokens < stated.warmup, stated.peak / stated.warmup * tokens, expected)
    for stage, (_, first, end) in zip(recipe.stages, plan.stage_steps(), strict=False):
        expected[first:end] *= stage.learning_rate_factor
    if recipe.start is not None and recipe.start.rewarm:
        expected *= np.minimum((tokens - plan.start * plan.context) / recipe.start.rewarm, 1.0)
    if wrong := _first(~(np.abs(plan.lr - expected) <= _LR_TOLERANCE * np.maximum(expected, stated.peak))):
        step = wrong - 1
        found = f"step {wrong}: {plan.lr[step]:.6e}, the schedule says {expected[step]:.6e}"
        return Check("learning rate", found, passed=False)
    name = {"cosine": "one cosine", "wsd": f"a WSD schedule with {stated.decay} decay"}
    kind = name.get(stated.schedule, f"a {stated.schedule} schedule")
    proof = f"{kind} from {plan.lr.max():.3e} to {plan.lr[-1]:.3e} at {plan.steps:,} steps"
    return Check("learning rate", proof, passed=True)


def _scheduled(stated: LearningRate, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """The schedule after its warm-up: a cosine by sin² of half the angle, other decays as weighted means of their ends.

    Piecewise schedules are walked point by point.
    """
    rates = np.full(tokens.shape, stated.peak)
    if stated.schedule == "piecewise":
        begin, factor = stated.warmup, 1.0
        for point in stated.points:
            lines = np.clip((tokens - begin) / (point.tokens - begin), 0.0, 1.0)
            part = tokens >= point.tokens if stated.between == "step" else lines
            rates += stated.peak * (point.factor - factor) * part
            begin, factor = point.tokens, point.factor
        return rates
    if stated.schedule == "constant":
        return rates
    low, end = float(stated.minimum or 0), int(stated.horizon or 0)
    begin = stated.warmup if stated.schedule == "cosine" else int(stated.decay_from or 0)
    gone = np.minimum(np.maximum(tokens, begin), end) - begin
    left, whole = (end - begin) - gone, end - begin
    match stated.decay:
        case "linear":
            rates = (stated.peak * left + low * gone) / whole
        case "exponential":
            rates = np.exp((np.log(stated.peak) * left + np.log(low) * gone) / whole)
        case "1-sqrt":
            rates = stated.peak - np.sqrt((stated.peak - low) ** 2 * gone / whole)
        case _:
            rates = stated.peak - (stated.peak - low) * np.sin(np.pi / 2 * gone / whole) ** 2
    return rates


def _bookkeeping(plan: Plan) -> Check:
    """Counts are never negative and sum to the batch; running totals are their sums."""
    counts = plan.counts.astype(np.int64)
    seen, taken = np.cumsum(plan.batch, dtype=np.int64), np.zeros_like(counts)
    for context in np.unique(plan.contexts):
        own = plan.contexts == context
        taken[own] = np.cumsum(counts[own], axis=0)
    tokens = plan.start * plan.context + np.cumsum(plan.batch.astype(np.int64) * plan.contexts)
    problems = {
        "a count is negative": (counts < 0).any(axis=1),
        "the counts do not sum to the batch": counts.sum(axis=1) != plan.batch,
        "sequences seen are not the sum of the batches": plan.before != plan.start + seen - plan.batch,
        "tokens seen are not those of the batches": plan.tokens != tokens,
        "sequences taken are not the sum of the counts": (plan.taken != taken - counts).any(axis=1),
    }
    for problem, where in problems.items():
        if wrong := _first(where):
            return Check("bookkeeping", f"step {wrong}: {problem}", passed=False)
    return Check("bookkeeping", f"{seen[-1]:,} sequences, the sum of all counts", passed=True)


def _quota(recipe: Recipe, plan: Plan) -> Check:
    """Every corpus stays within a sequence of its quota after every step, among the sequences of each context."""
    (_, base), *changes = recipe.path_shares(plan.variant or BASE)
    starts = [first for _, first, _ in plan.stage_steps()]
    largest = 0.0
    for name, (corpus, context) in plan.partitions.items():
        index, steps = plan.corpora.index(corpus), np.flatnonzero(plan.contexts == context)
        batch = np.where(plan.contexts == context, plan.batch, 0).astype(np.int64)
        share = base.get(corpus, Fraction(0))
        rises: list[_Rise] = []
        for stage, shares in changes:
            rise = shares.get(corpus, Fraction(0)) - share - sum((r.height for r in rises), Fraction(0))
            elsewhere = stage < len(starts) and plan.contexts[starts[stage]] != context
            ramp = Fraction(0 if elsewhere else recipe.stages[stage].ramp, context)
            rises.append(_Rise(rise, ramp, int(batch[: starts[stage]].sum())))
        quota, unit = _quota_curve(share, rises, np.cumsum(batch)[steps])
        away = (plan.taken[steps, index] + plan.counts[steps, index]) * unit - quota
        if wrong := _first(np.abs(away) >= unit):
            step, away_by = int(steps[wrong - 1]) + 1, float(away[wrong - 1] / unit)
            found = f"step {step}: {name} is {away_by:+.2f} sequences from its quota"
            return Check("quota", found, passed=False)
        largest = max(largest, float(np.abs(away).max() / unit))
    return Check("quota", f"never more than {largest:.3f} sequences from the stated shares", passed=True)


class _Rise(NamedTuple):
    """A change of one share by `height`, linear over `ramp` sequences from `begin` on."""

    height: Fraction
    ramp: Fraction
    begin: int

    @property
    def slope(self) -> Fraction:
        return self.height / (2 * self.ramp) if self.ramp else Fraction(0)

    @property
    def triangle(self) -> Fraction:
        return self.height * self.ramp / 2


def _quota_curve(share: Fraction, rises: list[_Rise], seen: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """The integral of the share, exactly, as whole multiples of 1/unit: (multiples, unit).

    It is the sum of the integrals of all rises. y sequences after it began, a rise is height·y/ramp until y = ramp; its
    integral is the area of a triangle, or of a triangle and a rectangle.
    """
    unit = lcm(share.denominator, *(part.denominator for r in rises for part in (r.height, r.slope, r.triangle)))
    bound = unit * max(int(seen[-1]), *(int(2 * r.ramp) ** 2 for r in rises), 1) * (1 + len(rises))
    if bound >= 1 << 62:  # then whole numbers of any size, slowly
        seen = seen.astype(object)
    total = int(share * unit) * seen
    for rise in rises:
        beyond = np.maximum(seen - rise.begin, 0)
        inside = beyond < rise.ramp
        curved = int(rise.slope * unit) * np.where(inside, beyond, 0) ** 2
        straight = int(rise.height * unit) * beyond - int(rise.triangle * unit)
        total = total + np.where(inside, curved, straight)
    return total, unit


def _first(wrong: NDArray[np.bool_]) -> int:
    """One more than the index of the first True, that is the number of its step; 0 if there is none."""
    return int(wrong.argmax()) + 1 if wrong.any() else 0
