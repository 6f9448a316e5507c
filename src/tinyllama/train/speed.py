"""The speed of training on this machine, measured with steps of made-up rows."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING

import torch

from tinyllama.model.devices import best_precision, free_memory, synchronize
from tinyllama.processors import available_cores
from tinyllama.recipe.schema import AUTO
from tinyllama.train.feeder import trial_batch
from tinyllama.train.forward_backward import Gradients
from tinyllama.train.machine import reuse_memory
from tinyllama.train.ranks import Ranks
from tinyllama.train.training_state import TrainingState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tinyllama.recipe import Recipe

_SECONDS = 4.0
"""For which passes and updates are timed at least."""
_UNCOUNTED, _MOST = 2, 50
"""Pairs of a pass and an update: the first ones, which are slower, do not count; and how many are enough."""
_GPU_TOKENS = 32_768
"""Tokens in a pass on an accelerator, whose `auto` would try how many fit."""


def measure_speed(recipe: Recipe, sequences: int, device: torch.device) -> float:
    """Tokens per second of a recipe's model in steps of `sequences` sequences, in one process.

    Passes and updates are timed in turns, as a step has them, and their medians are added up. Held-out losses,
    checkpoints and the start of training are not in it.

    Args:
        recipe: the model, its precision and how it runs.
        sequences: of a step.
        device: what computes.
    """
    free_memory(device)  # that of a shape before
    if recipe.precision == AUTO:
        recipe = recipe.in_precision(best_precision(device))
    threads = recipe.hardware.threads
    torch.set_num_threads(threads if isinstance(threads, int) else available_cores())
    reuse_memory()
    context = recipe.model.context
    rows = min(sequences, recipe.micro_batch if device.type == "cpu" else max(1, _GPU_TOKENS // context))
    state = TrainingState(recipe, Ranks(device=device))
    gradients = Gradients(
        state.model,
        micro_batch=rows,
        documents=None,
        compiled=recipe.hardware.compile,
        z_loss=recipe.optimizer.z_loss,
        scaler=state.scaler,
    )
    batch = trial_batch(rows, context, recipe.model.vocab_size)
    one_pass, update = _timed(lambda: float(gradients(batch)[0]), lambda: _update(state, device))
    return sequences * context / (-(-sequences // rows) * one_pass + update)


def _update(state: TrainingState, device: torch.device) -> None:
    for weight in state.weights.masters.values():
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
    state.update(0.0)
    synchronize(device)


def _timed(*runs: Callable[[], object]) -> list[float]:
    """Median seconds of calls that take turns."""
    times: list[list[float]] = []
    began = time.perf_counter()
    for _ in range(_UNCOUNTED):
        if time.perf_counter() - began < _SECONDS:
            _seconds_of(runs)
    while len(times) < _MOST and sum(map(sum, times)) < _SECONDS:
        times.append(_seconds_of(runs))
    return [median(each) for each in zip(*times, strict=True)]


def _seconds_of(runs: Sequence[Callable[[], object]]) -> list[float]:
    times = []
    for run in runs:
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return times
