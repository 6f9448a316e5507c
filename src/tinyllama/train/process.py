"""The process that trains a model, in `process.json` of the model's folder: whether it runs, and how it ended."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tinyllama.errors import TrainingError
from tinyllama.record_files import FileRecord, read_record, write_record

Outcome = Literal["finished", "stopped", "failed"]
"""How training ended: with the last checkpoint, by a signal, or by an error."""


class TrainingProcess(FileRecord):
    """The process of the first rank."""

    FORMAT: ClassVar[int] = 1

    format: int = FORMAT
    host: str
    pid: Annotated[int, Field(gt=0, lt=1 << 31)]
    born: str
    """When the process began, as its system counts, so that a later process of its number is not taken for it; empty
    where the system does not tell."""
    began: float
    """When it began to train the model, in seconds since 1970."""
    ended: float | None = None
    """When it ended to; None while it trains, and if it was killed."""
    outcome: Outcome | None = None
    """None while it trains, and if it was killed."""
    reason: str = ""
    """Of an end before the last step."""

    @property
    def is_here(self) -> bool:
        """Whether it ran, or runs, on this machine, and this machine tells of processes; Windows does not."""
        return self.host == socket.gethostname() and os.name != "nt"

    @property
    def is_alive(self) -> bool:
        """Whether the process exists; False if it is not here."""
        return self.is_here and _exists(self.pid) and _born(self.pid) == self.born

    def after(self, outcome: Outcome, reason: str) -> TrainingProcess:
        """The record once training has ended."""
        return self.model_copy(update={"ended": time.time(), "outcome": outcome, "reason": reason})


def this_process() -> TrainingProcess:
    """The record of this process, which begins to train a model."""
    return TrainingProcess(host=socket.gethostname(), pid=os.getpid(), born=_born(os.getpid()), began=time.time())


def read_process(path: Path) -> TrainingProcess | None:
    """The process that trained a model last; None if an earlier version trained it, or nothing did.

    Raises:
        TrainingError: the file is damaged.
        NewerFormatError: a later version wrote it.
    """
    try:
        return read_record(TrainingProcess, path, TrainingError, "delete it; training writes it again")
    except FileNotFoundError:
        return None


def write_process(path: Path, process: TrainingProcess) -> None:
    """Write the record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_record(path, process)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        return True
    return True


def _born(pid: int) -> str:
    """Ticks from the boot to the start of a process: field 22 of proc_pid_stat(5)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]  # the name, in parentheses, may hold anything
