"""Learning rates as pure functions of tokens seen.

Warm-up and decay are those of MiniCPM (Hu et al. 2024, section 4), over tokens in place of steps: a linear rise to the
peak, the peak itself, and a decay from there to the minimum. A cosine is the decay that begins where the warm-up ends.
A constant rate is the trunk alone, from which branches decay (Hägele et al. 2024); the exponential decay is MiniCPM's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tinyllama.recipe import LearningRate


def learning_rate(schedule: LearningRate, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """The learning rate at numbers of tokens seen."""
    warming = schedule.peak * (tokens / max(schedule.warmup, 1))
    return np.where(tokens < schedule.warmup, warming, _after_warmup(schedule, tokens))


def _after_warmup(schedule: LearningRate, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    if schedule.schedule == "piecewise":
        return schedule.peak * (_steps if schedule.between == "step" else _lines)(schedule, tokens)
    peak = np.full(tokens.shape, schedule.peak)
    if schedule.horizon is None or schedule.minimum is None:
        return peak
    begin = schedule.decay_begins
    progress = np.clip((tokens - begin) / (schedule.horizon - begin), 0.0, 1.0)
    if schedule.decay == "exponential":
        decayed = schedule.peak * (schedule.minimum / schedule.peak) ** progress
    else:
        decayed = schedule.minimum + (schedule.peak - schedule.minimum) * _SHAPES[schedule.decay or "cosine"](progress)
    # The step that ends where a branch decays is its parent's: its rate is the peak, to the last bit.
    return np.where(tokens <= begin if schedule.schedule == "wsd" else tokens < begin, peak, decayed)


def _linear(progress: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hägele et al. 2024, section 3.1; "linear decay to zero" of Defazio et al. 2023."""
    return 1 - progress


def _cosine(progress: NDArray[np.float64]) -> NDArray[np.float64]:
    """Loshchilov & Hutter 2017 ("SGDR"), without restarts."""
    return 0.5 * (1 + np.cos(np.pi * progress))


def _one_minus_sqrt(progress: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hägele et al. 2024, equation 1: 1-sqrt."""
    return 1 - np.sqrt(progress)


_SHAPES = {"linear": _linear, "cosine": _cosine, "1-sqrt": _one_minus_sqrt}
"""The part of the way from minimum to peak that is left at a progress from 0 to 1; the exponential decay has a fixed
ratio per token instead."""


def _lines(schedule: LearningRate, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """Linear between 1 at the end of the warm-up and the points, as torch's LinearLR between two of them."""
    places = [schedule.warmup, *(point.tokens for point in schedule.points)]
    return np.interp(tokens, places, [1.0, *(point.factor for point in schedule.points)])


def _steps(schedule: LearningRate, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """1, and from each point on its factor, as torch's MultiStepLR; DeepSeek LLM (Bi et al. 2024, section 2.3)."""
    factors = np.array([1.0, *(point.factor for point in schedule.points)])
    return factors[np.searchsorted([point.tokens for point in schedule.points], tokens, side="right")]
