"""The command line. Each command imports its heavy dependencies when it runs."""

from __future__ import annotations

import codecs
import io
import logging
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

_REPLACED = "tinyllama.replaced"
"""How characters that stdout or stderr cannot encode are written."""
_INTERRUPTED = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_SECONDS_TO_REACT = 5
"""Time after which a signal ends a command that is inside a long call of a library."""


def main() -> None:
    """Run `tinyllama`; exit code 2 for a user error, 1 for an internal error, 130 or 143 after a signal."""
    signals = _Signals()
    signals.install()
    _open_streams()
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        code = _run()
    except BaseException as error:
        signals.end()
        if not signals.number:  # after a signal, an error is what a library made of it
            code = _report(error)
            if code is None:
                raise
    signals.end()
    if signals.number:
        _write(signals.text)
        code = 128 + signals.number
    raise SystemExit(code)


def _run() -> str | int | None:
    """Run the command; its exit code."""
    from tinyllama.cli.commands import app  # deferred, so that importing the package stays cheap

    try:
        app(prog_name="tinyllama")
    except SystemExit as end:
        sys.stdout.flush()  # here, since Python reports an error in its own flush as a traceback
        return end.code
    return 0


def _report(error: BaseException) -> int | None:
    """Write a line about an error that is not ours; the exit code, or None for an error of ours."""
    from tinyllama.errors import TinyLlamaError
    from tinyllama.files import explain

    if isinstance(error, TinyLlamaError):
        _write(f"Error: {error}" if error.exit_code < 128 else str(error))
        return error.exit_code
    if not isinstance(error, OSError):
        return None
    if isinstance(error, BrokenPipeError) or error.filename is None:
        _discard_stdout()  # what is still in its buffer cannot be written
    if isinstance(error, BrokenPipeError):  # the reader of stdout has closed the pipe (`| head`)
        return 1
    if (text := explain(error)) is None:
        return None
    _write(f"Error: {text}")
    return 2


def _write(line: str) -> None:
    with suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def _open_streams() -> None:
    """Make stdout and stderr accept every character, and open those, and stdin, that the caller has closed."""
    codecs.register_error(_REPLACED, _replaced)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  # stays open until the process ends
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_REPLACED)


def _replaced(error: UnicodeError) -> tuple[bytes, int]:
    """A byte of a name that is no UTF-8 is written as it is; any other character becomes a question mark."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return b"".join(
        character.encode("utf-8", "surrogateescape") if "\udc80" <= character <= "\udcff" else b"?"
        for character in characters
    ), error.end


def _discard_stdout() -> None:
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Signals:
    """Ctrl-C and SIGTERM end a command where it is, with one line; a phase that can save its state replaces this.

    Libraries may turn the exception into another, print and forget it, or not return to Python for minutes: so the
    signal is remembered, raised again, and finally ends the process.
    """

    def __init__(self) -> None:
        self.number = 0
        """The first signal that came; 0 until then."""

    @property
    def text(self) -> str:
        """The line about it."""
        return f"{_INTERRUPTED[signal.Signals(self.number)]}; the same command resumes"

    def install(self) -> None:
        """React to the signals, unless the caller ignores them, as `nohup` does."""
        for number in _INTERRUPTED:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._raise)
        sys.unraisablehook = self._unraisable
        received, woken = os.pipe()
        if hasattr(os, "set_blocking"):  # Windows needs it not, and has it from Python 3.12
            os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forget_wakeup)
        threading.Thread(target=self._watch, args=(received,), daemon=True, name="signals").start()

    def end(self) -> None:
        """The command has ended: further signals end the process at once, silently."""
        for number in _INTERRUPTED:
            if signal.getsignal(number) == self._raise:
                signal.signal(number, signal.SIG_DFL)

    def _raise(self, number: int, _frame: FrameType | None) -> None:
        self.number = self.number or number
        raise KeyboardInterrupt

    def _unraisable(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Raise a signal again whose exception was lost in a destructor or a callback."""
        if self.number and unraisable.exc_type is KeyboardInterrupt:
            threading.Timer(0.01, os.kill, (os.getpid(), self.number)).start()
        else:
            sys.__unraisablehook__(unraisable)

    def _watch(self, received: int) -> None:
        """End the process if a signal came and the main thread does not return to Python in time."""
        while True:
            number = os.read(received, 1)[0]
            time.sleep(_SECONDS_TO_REACT)
            if not self.number and number in _INTERRUPTED and signal.getsignal(number) == self._raise:
                self.number = number
                _write(self.text)
                os._exit(128 + number)


def _forget_wakeup() -> None:
    """Signals of a forked process are not those of this one."""
    if threading.current_thread() is threading.main_thread():
        signal.set_wakeup_fd(-1)
