"""State of training in this process: the model's weights, the optimizer's moments, and the steps done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.checkpoint.format import load_tensors, stored_tensors, tensors_of
from tinyllama.model import Llama
from tinyllama.train import optimizer
from tinyllama.train.average import RunningAverage
from tinyllama.train.compiler import prepare_compiler
from tinyllama.train.forward_backward import compile_blocks
from tinyllama.train.fp8 import use_fp8
from tinyllama.train.parallel import checkpoint_activations, shard, stays_gathered
from tinyllama.train.precision import LossScaler, MasterWeights
from tinyllama.train.spikes import add_span

if TYPE_CHECKING:
    from tinyllama.checkpoint.format import Checkpoint
    from tinyllama.checkpoint.state import Span
    from tinyllama.recipe import Recipe
    from tinyllama.train.ranks import Ranks


class TrainingState:
    """What a checkpoint holds, and what a step changes."""

    def __init__(self, recipe: Recipe, ranks: Ranks, *, initial: bool = True) -> None:
        """Build the initial state: whole in one process, this rank's parts on several.

        Args:
            recipe: the model, optimizer and hardware.
            ranks: the processes that train together.
            initial: whether to draw the initial weights; without, `restore` must follow.
        """
        self._ranks = ranks
        with ranks.phase("sharding the model"):
            # Nodes may differ in memory, but all ranks must gather at the same times.
            self.gathered = ranks.count > 1 and not ranks.largest(not stays_gathered(recipe, ranks))
            """Whether sharded weights stay gathered during a step."""
            self.model, self.weights = _build_model(recipe, ranks, initial=initial, gathered=self.gathered)
        self.optimizer = optimizer.build_optimizer(recipe.optimizer, self.weights.masters, recipe.widening)
        self._average = RunningAverage(recipe, self.weights.masters)
        self.tensors = tensors_of(self.weights.masters, self.optimizer) | self._average.tensors
        """Weights, moments and average by the names that they have in a checkpoint."""
        self.step = 0
        """Steps of the plan that are done."""
        self.moment_steps = 0
        """Updates that the moments have seen, less the steps done: imported moments saw some before step 0, and a
        skipped step is none."""
        self.skipped: tuple[Span, ...] = ()
        """Steps whose updates were skipped."""
        self.scaler = LossScaler() if recipe.precision == "fp16" else None
        """Scales the loss in fp16."""
        self.weights.sync_working_copy()

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore the state of a checkpoint.

        Raises:
            CheckpointError: it does not hold every tensor.
        """
        stored = stored_tensors(checkpoint, self.tensors)
        for name in self.tensors.keys() - stored.keys():
            self.tensors[name].zero_()
        with self._ranks.phase("loading a checkpoint"), self._ranks.patiently():
            load_tensors(checkpoint, stored, self._ranks)
        self.step = checkpoint.step
        self.moment_steps = checkpoint.state.moment_steps
        self.skipped = checkpoint.state.skipped
        if self.scaler is not None and checkpoint.state.loss_scale is not None:
            self.scaler.state = checkpoint.state.loss_scale
        optimizer.set_step(self.optimizer, self.moment_steps + self.step)
        self.weights.sync_working_copy()

    def update(self, learning_rate: float, average_rate: float = 0.0) -> None:
        """Do the next step with the gradients that were accumulated for it; for the average see `Average.rate`."""
        optimizer.apply(self.optimizer, learning_rate)
        self._average.update(average_rate)
        self.weights.sync_working_copy()
        if self.scaler is not None:
            self.scaler.updated()
        self.step += 1

    def skip(self, last: int, average_rate: float = 0.0) -> Span:
        """Count the steps up to `last` as done without their updates, which leave the weights; returns them."""
        self._average.update(average_rate)
        span = self.step + 1, last
        self.skipped = add_span(self.skipped, span)
        self.moment_steps -= last - self.step
        self.step = last
        self.weights.sync_working_copy()
        return span


def _build_model(recipe: Recipe, ranks: Ranks, *, initial: bool, gathered: bool) -> tuple[Llama, MasterWeights]:
    """The model and its fp32 weights: whole in one process, this rank's parts on several."""
    model = Llama(recipe.model)
    if initial:
        model.initialize(recipe.seed, recipe.widening)
    if recipe.precision == "fp8":
        use_fp8(model, recipe.contexts, ranks.device)
    if recipe.hardware.compile:
        if ranks.device.type == "cpu":
            prepare_compiler()
        compile_blocks(model)
    if recipe.hardware.activation_checkpointing:
        checkpoint_activations(model)
    if ranks.count == 1:
        return model, MasterWeights(model.to(ranks.device), recipe.precision)
    shard(model, recipe, ranks, gathered=gathered)
    return model, MasterWeights(model, "fp32")  # FSDP2 rounds them where it gathers them
