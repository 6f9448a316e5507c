"""The machine: threads, memory and its reuse, locks, and the measured peak FLOP/s of matrix products."""

from __future__ import annotations

import ctypes
import fcntl
import logging
import platform
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from tinyllama.errors import TrainingError
from tinyllama.model.devices import CPU, memory_of
from tinyllama.processors import available_cores
from tinyllama.train.precision import DTYPES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_log = logging.getLogger(__name__)
_PEAK_SECONDS = 0.2
"""After which a slow processor's products are not repeated."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def reuse_memory() -> None:
    """Tell glibc to keep freed memory: returning it costs a page fault per 4 KiB at every step."""
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        library.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def measure_peak_flops(precision: str, device: torch.device) -> float:
    """FLOP/s of a large matrix product in this precision on this device: the best of at most eight.

    It is a product with a transposed matrix, as the model's are: where PyTorch has no kernel for the precision, others
    are 20 times slower.
    """
    size = 1024 if device.type == "cpu" else 8192
    left, right = (torch.randn(size, size, device=device).to(DTYPES[precision]) for _ in range(2))
    out = torch.empty_like(left)
    times = list[float]()
    while len(times) < 8 and sum(times) < _PEAK_SECONDS:
        start = time.perf_counter()
        torch.mm(left, right.T, out=out)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a folder's lock; the lock ends with the process, however that ends.

    Raises:
        TrainingError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TrainingError(f"{folder}: another process is training here; wait for it or stop it") from None
        yield


def describe_machine() -> dict[str, str | int | float]:
    """Processor, cores, memory and platform, for reports."""
    return {
        "cpu": _cpu_name(),
        "cores": available_cores(),
        "memory_gib": round(memory_of(CPU) / 2**30, 1),
        "platform": platform.platform(),
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123  # not a file of ours
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
