"""Progress on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
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
)

from tinyllama.family.progress import SECONDS_BETWEEN_LINES
from tinyllama.recipe.quantities import format_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tinyllama.plan import Plan
    from tinyllama.prepare.task import Counts
    from tinyllama.train.metrics import Record, StepRecord


_SECONDS_OF_SPEED = 20.0
"""Over which a speed is the mean."""


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

    def training(self, name: str, plan: Plan, place: str) -> TrainingProgress:
        """A progress bar for one run."""
        return TrainingProgress(self, name, plan, place)


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


class TrainingLine:
    """The line about a training: as many of its parts as a terminal has room for."""

    def __init__(self, name: str, place: str, first: int, last: int) -> None:
        """Begin a model's line.

        Args:
            name: of the model.
            place: its place among all models: `2 of 4`.
            first: tokens seen before its first step.
            last: tokens seen after its last step.
        """
        self._title, self._first, self._last = f"{name} ({place})", first, last
        self._recent = deque[tuple[float, int]]()
        """Times and tokens of the last seconds."""

    def text(self, record: StepRecord, width: int | None = None) -> str:
        """The line after a step, at most so wide; to be called once a step."""
        parts, kept = self._parts(record, self._speed(record)), set[int]()
        for rank, _ in sorted(parts):
            line = _joined(parts, kept | {rank})
            if width is not None and len(line) > width and kept:
                break
            kept.add(rank)
        return _joined(parts, kept)

    def _speed(self, record: StepRecord) -> float:
        """Tokens per second over the last seconds, checkpoints and measurements included; of the step at first."""
        now, recent = time.monotonic(), self._recent
        if not recent or record.tokens <= recent[-1][1]:  # the first one, or the first after a rollback
            recent.clear()
            recent.append((now - record.seconds, record.tokens - round(record.tokens_per_second * record.seconds)))
        recent.append((now, record.tokens))
        while len(recent) > 2 and now - recent[1][0] >= _SECONDS_OF_SPEED:
            recent.popleft()
        (began, before), (ended, after) = recent[0], recent[-1]
        return (after - before) / max(ended - began, 1e-9)

    def _parts(self, record: StepRecord, speed: float) -> list[tuple[int, str]]:
        """Parts of the line in their order, each with the rank in which it is kept on a narrow terminal."""
        done = (record.tokens - self._first) / max(1, self._last - self._first)
        left = timedelta(seconds=round((self._last - record.tokens) / max(speed, 1e-9)))
        return [
            (0, self._title),
            (6, record.stage),
            (1, f"{done:.0%}"),
            (5, f"{format_count(record.tokens - self._first)}/{format_count(self._last - self._first)} tokens"),
            (2, f"loss {record.loss:.3f}"),
            (7, f"lr {record.lr:.2e}"),
            (8, f"batch {record.batch}"),
            (3, f"{format_count(speed, 3)} tokens/s"),
            (9, f"MFU {record.mfu:.0%}"),
            (4, f"{left} left"),
        ]


def _joined(parts: list[tuple[int, str]], ranks: set[int]) -> str:
    return " · ".join(text for rank, text in parts if rank in ranks)


class TrainingProgress:
    """Receives the records of a run and shows its progress."""

    def __init__(self, screen: TerminalProgress, name: str, plan: Plan, place: str) -> None:
        self._screen, self._name = screen, name
        self._first = plan.tokens_after(plan.fork_step if plan.variant else 0)
        self._total = plan.tokens_after(plan.steps)
        self._bar: Progress | None = None
        self._task: Any = None
        self._last_line = 0.0
        self._line = TrainingLine(name, place, self._first, self._total)

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
        if self._screen.console.is_terminal:
            # A space before the bar, of which two columns are left, and one in which terminals wrap.
            self._update(record.tokens, self._line.text(record, self._screen.console.width - 4))
            return
        text = self._line.text(record)
        if time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._screen.say(text)
            self._last_line = time.monotonic()

    def _update(self, tokens: int, text: str) -> None:
        if self._bar is None:
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=None))
            self._bar = Progress(*columns, console=self._screen.console, transient=True, expand=True)
            self._bar.start()
            self._task = self._bar.add_task("", total=self._total - self._first)
        self._bar.update(self._task, completed=tokens - self._first, description=text)

    def flush(self) -> None:
        """Do nothing: no records are buffered."""

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
