"""The processor cores of this machine."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def stay_behind() -> None:
    """Let this process have one core, where processes have affinities, and only while no other wants it."""
    if hasattr(os, "nice"):  # on Windows the process that starts this one chooses its priority
        os.nice(19)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
