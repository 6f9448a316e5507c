"""Trees of processes: their memory, their processor time, and whether they run."""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterable

_PROC = Path("/proc")


def tree(root: int) -> list[int]:
    """A process, its children, and theirs."""
    children = defaultdict(list)
    for path in _PROC.iterdir():
        if path.name.isdigit() and (fields := _fields(int(path.name))):
            children[int(fields[1])].append(int(path.name))
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to processes that are still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def processor_seconds(pids: Iterable[int]) -> float:
    """Processor time of processes so far."""
    found = [fields for pid in pids if (fields := _fields(pid))]
    return sum(int(fields[11]) + int(fields[12]) for fields in found) / os.sysconf("SC_CLK_TCK")


def peak_memory(pid: int) -> int:
    """Most bytes that a process had in memory (VmHWM); 0 if it is gone."""
    try:
        lines = (_PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def _fields(pid: int) -> list[str]:
    """What proc_pid_stat(5) lists from the state on; empty if the process is gone."""
    try:
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
