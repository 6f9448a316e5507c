"""Tells that a model's training began, and how it ended: in `process.json`, and to the receiver of `logging.notify`."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Self

from tinyllama.errors import Interrupted
from tinyllama.train.alerts import Alert, post, reason_of
from tinyllama.train.outbox import Outbox
from tinyllama.train.process import this_process, write_process

if TYPE_CHECKING:
    from types import TracebackType

    from tinyllama.train.metrics import Record
    from tinyllama.train.process import Outcome, TrainingProcess
    from tinyllama.train.run import TrainingRun

_LAST_SECONDS = 5.0
"""That the last message may take; a command that ended on a signal has little time left."""


class Lifecycle:
    """The training of one model; receives its records. Only the first rank writes and sends."""

    def __init__(self, run: TrainingRun, url: str | None) -> None:
        """Write and send nothing yet.

        Args:
            run: what is trained.
            url: of the receiver, with variables replaced; None for none.
        """
        self._run, self._url = run, url
        self._outbox = Outbox("logging.notify", reason_of) if run.ranks.first and url is not None else None
        self._process = this_process()
        self._began = self._ended = False
        if run.ranks.watch is not None:  # which ends the process
            run.ranks.watch.tell = self.end
        self._step = self._tokens = 0
        self._loss: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(error)

    def begin(self) -> None:
        """Training begins."""
        self._began = True
        self._write(self._process)

    def end(self, error: BaseException | None) -> None:
        """Training has ended: with an error, or with the last checkpoint."""
        if self._ended:
            return
        self._ended = True
        outcome, text = _outcome(error)
        if self._began:
            self._write(self._process.after(outcome, text))
        if error is not None:
            self._send(outcome, text)
        elif self._began and self._run.replay_to is None:
            self._send(outcome, "the last checkpoint is written")
        if self._outbox is not None:
            self._outbox.close(_LAST_SECONDS)

    def log(self, record: Record) -> None:
        """Remember where training is; tell a spike."""
        if record.kind == "step":
            self._step, self._tokens, self._loss = record.step, record.tokens, record.loss
        elif record.kind == "spike":
            self._step, self._tokens, self._loss = record.step, record.tokens, record.loss
            first, last = record.skipped
            steps = f"step {last}" if first == last else f"steps {first} to {last}"
            self._send("spike", f"{steps} skipped, policy {record.policy}")

    def flush(self) -> None:
        """Do nothing: messages leave at once."""

    def close(self) -> None:
        """Do nothing: the end is told once it is known."""

    def _write(self, process: TrainingProcess) -> None:
        if self._run.ranks.first:
            with suppress(OSError):  # such as the full disk that ended it; who follows the run has its metrics
                write_process(self._run.layout.process(self._run.name), process)

    def _send(self, event: str, text: str) -> None:
        if self._outbox is None or self._url is None:
            return
        family, model = self._run.recipe.name, self._run.name
        at = f" at step {self._step}" if self._step else ""
        alert = Alert(
            event=event,
            family=family,
            model=model,
            step=self._step,
            tokens=self._tokens,
            loss=self._loss,
            text=f"{family}/{model}: {event}{at}: {text}",
        )
        self._outbox.put(partial(post, self._url, alert))


def _outcome(error: BaseException | None) -> tuple[Outcome, str]:
    if error is None:
        return "finished", ""
    outcome: Outcome = "stopped" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed"
    return outcome, str(error) or type(error).__name__
