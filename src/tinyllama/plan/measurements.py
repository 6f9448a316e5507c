"""When checkpoints are evaluated in the background while a model trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tinyllama.layout import BASE

if TYPE_CHECKING:
    from tinyllama.plan.table import Plan
    from tinyllama.recipe import Recipe


def measured_tokens(plan: Plan, recipe: Recipe, every: int | None) -> list[int]:
    """Tokens of the checkpoints that are measured, if measuring keeps pace with training.

    It is the first checkpoint after each interval of `every` tokens, and the last one of each model. A variant's list
    begins with that of its base, as its plan does; a branch's holds its own alone.

    Args:
        plan: compiled from `recipe`.
        recipe: the recipe.
        every: tokens between measurements; None for no measurement.
    """
    if every is None:
        return []
    model, fork = plan.variant, plan.fork_step if plan.variant is not None else 0
    own = (fork, plan.steps)
    parts = [own] if fork == 0 or model in recipe.branches else [(0, fork), own]
    saved = np.array(sorted(_saved_steps(plan, recipe)))
    measured = set[int]()
    for first, end in parts:
        due = [step for step in plan.steps_crossing(every) if first < step <= end]
        measured |= {end, *saved[np.searchsorted(saved, due)].tolist()}
    return [plan.tokens_after(step) for step in sorted(measured)]


def _saved_steps(plan: Plan, recipe: Recipe) -> set[int]:
    """Steps with a checkpoint, that of the end included."""
    settings = recipe.checkpoints
    forks = [recipe.fork_tokens(name) for name in recipe.branches_of(plan.variant or BASE)]
    steps = {end for _, _, end in plan.stage_steps()} | plan.steps_crossing(settings.every) | plan.steps_reaching(forks)
    return steps | (plan.steps_crossing(settings.permanent) if settings.permanent is not None else set())
