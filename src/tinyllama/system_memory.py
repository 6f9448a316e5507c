"""The memory of this machine and of this process, where the operating system tells; Windows does not."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def physical_memory() -> int | None:
    """Bytes of memory that the machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None


def available_memory() -> int | None:
    """Bytes that programs can still use without others being swapped out; None where it is unknown (not Linux)."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    sizes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(sizes[0]) * 1024 if sizes else None


def peak_memory() -> int | None:
    """The most bytes of memory that this process has held."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, KiB elsewhere
