"""Ctrl-C, SIGTERM and SIGUSR1 (a cluster's warning) end a run at the next safe point; a second one, at once.

Under torchrun a second one changes nothing: Slurm signals every process of a job, and torchrun forwards the signal to
its ranks, so that each of them receives it twice. torchrun kills the ranks that do not end in time.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import FrameType, TracebackType

_TORCHRUN = "TORCHELASTIC_RUN_ID"
"""Set in the processes that torchrun starts."""

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
"""Windows has no SIGUSR1."""


class StopRequest:
    """While entered, remembers the first SIGINT, SIGTERM or SIGUSR1 in `signal_number` (0 until then)."""

    def __init__(self) -> None:
        self.signal_number = 0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        self.signal_number = self.signal_number or number
        if _TORCHRUN not in os.environ:
            self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal gave
        self._previous.clear()
