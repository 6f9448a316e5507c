"""The machine: threads, memory and its reuse, locks, and the measured peak FLOP/s of matrix products."""

from __future__ import annotations

import ctypes
import logging
import platform
import time
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING

import torch

from tinyllama.errors import TrainingError
from tinyllama.locks import locked_file
from tinyllama.model.devices import CPU, memory_of, synchronize
from tinyllama.processors import available_cores
from tinyllama.train.precision import DTYPES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_log = logging.getLogger(__name__)
_PEAK_SECONDS = 0.2
"""After which the products of a slow processor are not repeated, of which there are at least three."""
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
    while len(times) < 3 or (len(times) < 8 and sum(times) < _PEAK_SECONDS):
        start = time.perf_counter()
        torch.mm(left, right.T, out=out)
        synchronize(device)
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)


@cache
def known_peak_flops(precision: str, device: torch.device, threads: int) -> float:
    """As `measure_peak_flops` with `threads` threads, measured once for all models that this process trains."""
    torch.set_num_threads(threads)
    return measure_peak_flops(precision, device)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a folder's lock; the lock ends with the process, however that ends.

    Raises:
        TrainingError: another process holds it.
    """
    with ExitStack() as held:
        try:
            held.enter_context(locked_file(folder / ".lock", wait=False))
        except BlockingIOError:
            raise TrainingError(f"{folder}: another process is training here; wait for it or stop it") from None
        yield


def describe_machine() -> dict[str, str | int | float]:
    """Processor, cores, memory and platform, for reports."""
    memory = memory_of(CPU)
    return {
        "cpu": _cpu_name(),
        "cores": available_cores(),
        "memory_gib": "unknown" if memory is None else round(memory / 2**30, 1),
        "platform": platform.platform(),
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123  # not a file of ours
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
