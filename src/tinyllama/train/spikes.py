"""Loss spikes: which steps are one, and which steps were skipped for it.

No later step sees a spike's batch again: whatever the policy, training continues with the next step of the plan. So a
skipped step keeps its place in the plan (its tokens count as seen, its rows are not read later, and the learning rate
of the steps after it is what it would have been), and which rows a step sees stays a pure function of plan, seed and
step.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from tinyllama.checkpoint.state import SpikeState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tinyllama.checkpoint.state import Span
    from tinyllama.recipe import Spikes

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

    def __init__(self, settings: Spikes, recorded: SpikeState | None) -> None:
        """Resume from a checkpoint.

        Args:
            settings: the recipe's.
            recorded: what `state` gave for that checkpoint; None to begin anew.
        """
        self._sigmas = settings.sigmas
        self._losses = deque[float](recorded.losses if recorded else (), maxlen=settings.window)
        self._in_a_row = recorded.in_a_row if recorded else 0

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

    def skipped(self) -> bool:
        """Note a spike; returns whether its rows may still be the cause."""
        self._in_a_row += 1
        return self._in_a_row < MOST_IN_A_ROW

    def roll_back(self, losses: Iterable[float]) -> None:
        """Restore the losses of the checkpoint that the weights roll back to; spikes in a row stay counted."""
        self._losses.clear()
        self._losses.extend(losses)

    def state(self, planned: int | None) -> SpikeState:
        """What a checkpoint must hold to resume exactly; `planned` is the step to roll back to."""
        return SpikeState(losses=tuple(self._losses), in_a_row=self._in_a_row, planned=planned)


def add_span(spans: tuple[Span, ...], following: Span) -> tuple[Span, ...]:
    """Spans of steps and a later one, joined where they touch."""
    if spans and spans[-1][1] == following[0] - 1:
        return (*spans[:-1], (spans[-1][0], following[1]))
    return (*spans, following)
