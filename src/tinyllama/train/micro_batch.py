"""How many sequences a pass has: as stated, as recorded, from the device's free memory, or by the clock.

On CPUs, `auto` is a fixed rule, since another number changes the order of additions and so the weights' last bits.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from typing import TYPE_CHECKING

import numpy as np

from tinyllama.model.devices import free_memory, is_out_of_memory, unused_memory
from tinyllama.plan.cards import RESERVED
from tinyllama.plan.hardware import even_counts, most_even
from tinyllama.train.feeder import trial_batch
from tinyllama.train.memory import measure_step
from tinyllama.train.parallel import stays_gathered
from tinyllama.train.training_state import TrainingState

if TYPE_CHECKING:
    from collections.abc import Callable

    from tinyllama.checkpoint.state import CheckpointState
    from tinyllama.recipe import Recipe
    from tinyllama.train.forward_backward import Gradients
    from tinyllama.train.ranks import Ranks
    from tinyllama.train.run import TrainingRun

    BuildGradients = Callable[[TrainingState, int], Gradients]

_log = logging.getLogger(__name__)
_TIMED = 3
"""Numbers of sequences that are timed, each about half of the one before."""


def known_micro_batch(run: TrainingRun, recorded: CheckpointState | None) -> int | None:
    """Sequences in a pass as the recipe says, else as recorded, on GPUs for the same number of ranks; else None."""
    asked, ranks = run.recipe.hardware.micro_batch, run.ranks
    if isinstance(asked, int):
        return asked
    if recorded is None or (ranks.device.type != "cpu" and recorded.ranks != ranks.count):
        return None
    return recorded.micro_batch


def largest_micro_batch(run: TrainingRun, step: int, build: BuildGradients) -> int:
    """As many sequences in a pass as fit on every rank's device; where memory is the host's, about 8,192 tokens.

    The memory of a step is measured without data; then a step on made-up rows is tried on the device, by each rank
    alone, since a rank that is out of memory in a collective would leave the others waiting.

    Args:
        run: what is trained.
        step: the first of the plan that is trained.
        build: what computes a state's gradients with some sequences in a pass.
    """
    recipe, ranks = run.recipe, run.ranks
    unused = unused_memory(ranks.device)
    if unused is None:
        return recipe.micro_batch
    stages = run.recipes_from(step)
    rows, silent = _rows(run, step), ranks.without_communication()
    gathered = ranks.count > 1 and stays_gathered(recipe, ranks)

    def on_any_rank(*, found: bool) -> bool:
        with ranks.phase("choosing the micro-batch"):  # not what takes long before it, on each rank alone
            return bool(ranks.largest(found))

    def too_large(count: int) -> bool:
        passes = ((stage, recipe.rows_of_pass(count, stage.model.context)) for stage in stages)
        needed = max(measure_step(stage, silent, rows, gathered=gathered).total for stage, rows in passes) + RESERVED
        return on_any_rank(found=needed > unused)

    counts = even_counts(rows)
    most = counts[max(0, bisect_left(counts, 1, key=too_large) - 1)]
    chosen = most_even(rows, most)
    while on_any_rank(found=not all(_runs(recipe, stage, silent, chosen, build) for stage in stages)) and chosen > 1:
        smaller = most_even(rows, chosen // 2)
        if ranks.first:
            _log.warning("out of memory with %d sequences in a pass; trying %d", chosen, smaller)
        chosen = smaller
    return chosen


def _runs(recipe: Recipe, stage: Recipe, silent: Ranks, micro_batch: int, build: BuildGradients) -> bool:
    """Whether a step of two passes fits on this rank's device, with the shape that the model has in a stage."""
    free_memory(silent.device)  # that of the try before
    shape = stage.model
    rows = recipe.rows_of_pass(micro_batch, shape.context)
    try:
        state = TrainingState(stage, silent, initial=False)
        build(state, rows)(trial_batch(2 * rows, shape.context, shape.vocab_size))
        state.update(0.0)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True


def fastest_micro_batch(run: TrainingRun, step: int, most: int, gradients: Gradients) -> int:
    """The number of sequences in a pass whose steps take the least time, of some up to `most`; timed on made-up rows.

    Args:
        run: what is trained.
        step: the first of the plan that is trained.
        most: the largest number that is timed.
        gradients: of the model that is trained; what they add must be dropped.
    """
    ranks, rows = run.ranks, _rows(run, step)
    counts = {most_even(rows, max(1, min(rows, most) >> number)) for number in range(_TIMED)}
    times = dict[int, int]()
    for count in sorted(counts, reverse=True):
        with ranks.phase(f"timing {count} sequences in a pass"):
            gradients.micro_batch = count
            batch = trial_batch(2 * count, run.plan.context, run.recipe.model.vocab_size)
            float(gradients(batch)[0])  # compiles
            began = time.perf_counter_ns()
            float(gradients(batch)[0])
            times[count] = ranks.largest(time.perf_counter_ns() - began) * -(-rows // count)
    return min(times, key=lambda count: times[count])


def _rows(run: TrainingRun, step: int) -> int:
    """Rows of a rank in most steps of the plan from `step` on, in sequences of the model's context."""
    batch = run.plan.batch[step:].astype(np.int64) * run.plan.contexts[step:] // run.plan.context
    return max(1, -(-int(np.bincount(batch).argmax()) // run.ranks.count))
