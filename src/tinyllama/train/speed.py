"""The speed of training on this machine, measured with steps of made-up rows."""

from __future__ import annotations

import time
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
    from collections.abc import Callable

    from tinyllama.recipe import Recipe

_SECONDS = 1.5
"""For which passes, and then updates, are timed at least."""
_MOST = 50
_GPU_TOKENS = 32_768
"""Tokens in a pass on an accelerator, whose `auto` would try how many fit."""


def measure_speed(recipe: Recipe, sequences: int, device: torch.device) -> float:
    """Tokens per second of a recipe's model in steps of so many sequences, in one process.

    A pass and an update are timed for more than a second each, after a first one that is not, and added up as a step
    has them. Held-out losses, checkpoints and the start of training are not in it.

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
    one_pass = _timed(lambda: float(gradients(batch)[0]))
    update = _timed(lambda: _update(state, device))
    return sequences * context / (-(-sequences // rows) * one_pass + update)


def _update(state: TrainingState, device: torch.device) -> None:
    for weight in state.weights.masters.values():
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
    state.update(0.0)
    synchronize(device)


def _timed(run: Callable[[], object]) -> float:
    """Median seconds of a call, after one that is not counted."""
    run()
    times = list[float]()
    while len(times) < _MOST and sum(times) < _SECONDS:
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]
