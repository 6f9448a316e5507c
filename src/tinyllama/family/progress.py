"""Progress reports of a family. The command line shows them on a terminal; the Python default is silent."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tinyllama.plan import Plan
    from tinyllama.prepare.task import Counts
    from tinyllama.train.metrics import Logger, Record

SECONDS_BETWEEN_LINES = 15.0


class Progress(Protocol):
    """Receives messages, counts and training records."""

    def say(self, text: str) -> None:
        """Show one line."""

    def counting(self, what: str) -> AbstractContextManager[Callable[[Counts], None]]:
        """A context that shows counts of documents, bytes and tokens."""

    def training(self, name: str, plan: Plan, place: str) -> Logger:
        """A receiver of one run's records; `place` is that among all models: `2 of 4`."""


class Silent:
    """Shows nothing."""

    def say(self, text: str) -> None:
        """Drop one line."""

    @contextmanager
    def counting(self, what: str) -> Iterator[Callable[[Counts], None]]:  # noqa: ARG002  # as Progress has it
        """Drop all counts."""
        yield lambda _counts: None

    def training(self, name: str, plan: Plan, place: str) -> Logger:  # noqa: ARG002  # as Progress has it
        """Drop all records."""
        return _SilentLogger()


class _SilentLogger:
    def log(self, record: Record) -> None:
        """Drop one record."""

    def flush(self) -> None:
        """Do nothing: no records are buffered."""

    def close(self) -> None:
        """Do nothing: no resource is open."""


SILENT = Silent()


def at_intervals(say: Callable[[str], None], seconds: float = SECONDS_BETWEEN_LINES) -> Callable[[str], None]:
    """A function that passes on one line every `seconds` seconds and drops the others."""
    last = time.monotonic()

    def say_now_and_then(text: str) -> None:
        nonlocal last
        if time.monotonic() - last > seconds:
            last = time.monotonic()
            say(text)

    return say_now_and_then
