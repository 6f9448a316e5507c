"""Averages of a model's weights: the running one that training keeps, and the checkpoint that a finished model gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.distributed.tensor import DTensor

from tinyllama.checkpoint.format import AVERAGE, WEIGHT, save_checkpoint
from tinyllama.checkpoint.retention import Retention
from tinyllama.checkpoint.store import checkpoint_store
from tinyllama.checkpoint.weights import CheckpointWeights
from tinyllama.errors import CheckpointError
from tinyllama.layout import average_of
from tinyllama.recipe import dump_recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from tinyllama.plan import Plan
    from tinyllama.recipe import Recipe
    from tinyllama.train.run import TrainingRun


class RunningAverage:
    """An exponential average of the weights after each step, in fp32, of the parts that this rank holds."""

    def __init__(self, recipe: Recipe, masters: Mapping[str, Tensor]) -> None:
        """Begin an average of `masters`, or none if the recipe has no half-life."""
        kept = masters if recipe.average is not None and recipe.average.half_life is not None else {}
        self.tensors = {f"{AVERAGE}{name}": torch.zeros_like(weight) for name, weight in kept.items()}
        """The average by the names that its tensors have in a checkpoint."""
        self._pairs = list(zip(map(_local, self.tensors.values()), map(_local, kept.values()), strict=True))

    @torch.no_grad()
    def update(self, rate: float) -> None:
        """Move the average toward the weights by `rate`, see `Average.rate`."""
        for average, weight in self._pairs:
            average.lerp_(weight, rate)


def _local(tensor: Tensor) -> Tensor:
    """This rank's part, which shares its memory with the whole."""
    part = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return part.detach()


def averaged_steps(recipe: Recipe, plan: Plan) -> tuple[int, ...]:
    """Steps whose checkpoints a model's average is made of: the last planned ones, or the end if it is a running one.

    A variant's are its own: none is of the base.
    """
    average = recipe.average
    if average is None:
        return ()
    if average.last is None:
        return (plan.steps,)
    first = plan.fork_step if plan.variant else 0
    planned = plan.steps_crossing(recipe.checkpoints.every) | {end for _, _, end in plan.stage_steps()}
    return tuple(sorted(step for step in planned if step > first)[-average.last :])


def write_average(run: TrainingRun) -> None:
    """Write the average of a finished model as a checkpoint of its own, which has no moments, unless it is there.

    Raises:
        CheckpointError: a checkpoint that it is made of was deleted.
        StorageError: the URL for checkpoints cannot be reached.
    """
    steps, end = averaged_steps(run.recipe, run.plan), run.plan.steps
    if not steps or run.replay_to is not None:
        return
    store = checkpoint_store(run.recipe, run.family, average_of(run.name))
    state = run.store.state(end)
    state = state.model_copy(update={"run": average_of(run.name), "mean_of": steps, "moments": "fresh", "spikes": None})
    if end in store.steps() and store.state(end) == state:
        return
    if missing := set(steps) - set(run.store.steps()):
        raise CheckpointError(
            f"{run.store.name(min(missing))}: was deleted, but average.last needs it; average fewer checkpoints, or "
            "train into another folder with --run"
        )
    store.begin(dump_recipe(run.recipe))
    store.prune(Retention(0))
    save_checkpoint(store.folder, _mean(run, steps), state)
    store.upload(end)


def _mean(run: TrainingRun, steps: tuple[int, ...]) -> dict[str, Tensor]:
    """The mean weights of some checkpoints, or the running average of one."""
    prefix = WEIGHT if run.recipe.average is not None and run.recipe.average.last is not None else AVERAGE
    total: dict[str, Tensor] = {}
    for step in steps:
        weights = CheckpointWeights(run.store.open(step), prefix)
        for name, weight in weights.items():
            total[name] = total[name].add_(weight) if name in total else weight
    return {f"{WEIGHT}{name}": weight.div_(len(steps)) for name, weight in total.items()}
