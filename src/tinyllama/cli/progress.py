"""Progress on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tinyllama.family.progress import SECONDS_BETWEEN_LINES
from tinyllama.recipe.quantities import format_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tinyllama.plan import Plan
    from tinyllama.prepare.task import Counts
    from tinyllama.train.metrics import Record


class TerminalProgress:
    """Messages and progress on stderr."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False)

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def counting(self, what: str) -> Iterator[Callable[[Counts], None]]:
        """A counter of documents, bytes and tokens, with speeds and, if known, the remaining time."""
        progress = PreparationProgress(self, what)
        try:
            yield progress.show
        finally:
            progress.close()

    def training(self, name: str, plan: Plan) -> TrainingProgress:
        """A progress bar for one run."""
        return TrainingProgress(self, name, plan)


class PreparationProgress:
    """Shows a corpus's progress; work done before this command is included in the counts, not in the speeds."""

    def __init__(self, screen: TerminalProgress, what: str) -> None:
        self._screen, self._what = screen, what
        self._began = self._last_line = time.monotonic()
        self._first: Counts | None = None
        self._text = ""
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=20), TimeElapsedColumn())
        self._bar = Progress(*columns, console=screen.console, transient=True, disable=not screen.console.is_terminal)
        self._bar.start()
        self._task = self._bar.add_task(what, total=None)

    def show(self, counts: Counts) -> None:
        """Show the total counts of all tasks."""
        self._first = self._first or counts
        self._text = self._describe(counts, self._first)
        total = counts.read + counts.unread or None
        left = f", {_clock(seconds)} left" if (seconds := self._seconds_left(counts, self._first)) is not None else ""
        self._bar.update(self._task, description=self._text + left, total=total, completed=counts.read)
        if not self._screen.console.is_terminal and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._screen.say(self._text + left)
            self._last_line = time.monotonic()

    def _describe(self, counts: Counts, first: Counts) -> str:
        seconds = max(time.monotonic() - self._began, 1e-6)
        size, tokens = (counts.bytes - first.bytes) / 1e6, counts.tokens - first.tokens
        return (
            f"{self._what}: {counts.documents:,} documents, {counts.bytes / 1e6:,.1f} MB, "
            f"{size / seconds:,.1f} MB/s, {format_count(tokens / seconds, 3)} tokens/s"
        )

    def _seconds_left(self, counts: Counts, first: Counts) -> float | None:
        """Estimated time for the remaining files at the average speed; None before the first task is done."""
        done = counts.read - first.read
        return counts.unread / done * (time.monotonic() - self._began) if done else None

    def close(self) -> None:
        """Remove the bar and print the final counts."""
        self._bar.stop()
        if self._text:
            self._screen.say(f"{self._text} in {time.monotonic() - self._began:.1f} s")


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


class TrainingProgress:
    """Receives the records of a run and shows its progress."""

    def __init__(self, screen: TerminalProgress, name: str, plan: Plan) -> None:
        self._screen, self._name = screen, name
        self._first = plan.tokens_after(plan.fork_step if plan.variant else 0)
        self._total = plan.tokens_after(plan.steps)
        self._bar: Progress | None = None
        self._task: Any = None
        self._last_line = 0.0

    def log(self, record: Record) -> None:
        """Show one record."""
        if record.kind == "held_out":
            losses = ", ".join(f"{corpus} {loss:.3f}" for corpus, loss in record.losses.items())
            self._screen.say(f"  {self._name} at {format_count(record.tokens)}: held-out loss {losses}")
            return
        if record.kind == "spike":
            from tinyllama.report.text import spike_text  # deferred: spikes are rare

            self._screen.say(f"  {self._name}: {spike_text(record)}")
            return
        if record.kind == "overflow":
            text = f"step {record.step} is skipped: fp16 gradients overflowed at loss scale {record.scale:g}"
            self._screen.say(f"  {self._name}: {text}")
            return
        text = (
            f"{self._name} · {record.stage} · {format_count(record.tokens)}/{format_count(self._total)} tokens · "
            f"loss {record.loss:.3f} · lr {record.lr:.2e} · batch {record.batch} · "
            f"{record.tokens_per_second:,.0f} tokens/s · MFU {record.mfu:.0%}"
        )
        if self._screen.console.is_terminal:
            self._update(record.tokens, text)
        elif time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._screen.say(text)
            self._last_line = time.monotonic()

    def _update(self, tokens: int, text: str) -> None:
        if self._bar is None:
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TimeRemainingColumn())
            self._bar = Progress(*columns, console=self._screen.console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task("", total=self._total - self._first)
        self._bar.update(self._task, completed=tokens - self._first, description=text)

    def flush(self) -> None:
        """Do nothing: no records are buffered."""

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
