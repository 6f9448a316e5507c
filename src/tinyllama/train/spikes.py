"""Loss spikes: which steps are one, and which steps were left out for it.

A spike's batch is met again by no step: whatever the policy, training goes on with the next step of the plan. So a
step that is left out keeps its place in the plan (its tokens count as seen, its rows are not read later, and the
learning rate of the steps after it is what it would have been), and which rows a step sees stays a pure function of
plan, seed and step.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinyllama.recipe import Spikes

Span = list[int]
"""The first and the last of some steps, counted from 1."""
MOST_IN_A_ROW = 10
"""Spikes after which training stops: by then the weights or the threshold are at fault."""


class SpikeWatch:
    """Tells whether a step is a spike, before its update.

    A step is one if its loss or gradient norm is not finite, or if its loss exceeds the mean of the last `window`
    updates' losses by more than `sigmas` of their standard deviations. That is the rule of OLMo 2's optimizer (OLMo
    team 2025; 6 deviations, 128 steps) without its rule for the gradient norm, which is clipped here. A stage begins
    with an empty window, since another batch or mixture has other losses; until it is full only what is not finite
    counts.
    """

    def __init__(self, settings: Spikes, recorded: dict[str, Any]) -> None:
        """Begin where a checkpoint left off.

        Args:
            settings: the recipe's.
            recorded: what `state` gave for that checkpoint; empty for none.
        """
        self._sigmas = settings.sigmas
        self._losses = deque[float](recorded.get("losses", ()), maxlen=settings.window)
        self._in_a_row = int(recorded.get("in_a_row", 0))

    @property
    def threshold(self) -> float | None:
        """The highest loss, in nats, that is no spike; None while the window is not full."""
        if len(self._losses) != self._losses.maxlen:
            return None
        return fmean(self._losses) + self._sigmas * stdev(self._losses)

    def begin_stage(self) -> None:
        """Forget the losses of the stage before."""
        self._losses.clear()

    def is_spike(self, loss: float, grad_norm: float) -> bool:
        """Whether a step's batch is a spike."""
        if not math.isfinite(loss) or not math.isfinite(grad_norm):
            return True
        threshold = self.threshold
        return threshold is not None and loss > threshold

    def updated(self, loss: float) -> None:
        """Note the loss of a step whose update was made."""
        self._losses.append(loss)
        self._in_a_row = 0

    def left_out(self) -> bool:
        """Note a spike; whether rows may still be what causes it."""
        self._in_a_row += 1
        return self._in_a_row < MOST_IN_A_ROW

    def go_back(self, recorded: dict[str, Any]) -> None:
        """Take the losses of the checkpoint that the weights were taken from; spikes in a row stay counted."""
        self._losses.clear()
        self._losses.extend(recorded.get("losses", ()))

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold to go on exactly."""
        return {"losses": list(self._losses), "in_a_row": self._in_a_row}


def add_span(spans: list[Span], following: Span) -> list[Span]:
    """Spans of steps and a later one, joined where they touch."""
    if spans and spans[-1][1] == following[0] - 1:
        return [*spans[:-1], [spans[-1][0], following[1]]]
    return [*spans, following]
