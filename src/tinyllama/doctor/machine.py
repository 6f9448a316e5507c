"""Device, number format, compiler, memory and disks of this machine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tinyllama.doctor.findings import Examined
from tinyllama.packages import cache_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

_SCARCE, _ENOUGH = 1e9, 10e9
"""Free bytes of a disk below which a small family does not fit, and from which the demo does with room to spare."""


def examine_device() -> Iterator[Examined]:
    """The device that `auto` chooses, its memory, and whether it multiplies in bf16."""
    from tinyllama.model.devices import best_precision, choose_device, describe_device, memory_of  # imports torch

    device = choose_device()
    name = describe_device(device)
    if device.type == "cpu" and shutil.which("nvidia-smi"):
        remedy = "install a build of PyTorch for your CUDA version, see https://pytorch.org/get-started/locally/"
        yield Examined("device", "limited", f"{name}, though nvidia-smi is here: PyTorch sees no GPU", remedy)
    else:
        yield Examined("device", "ok", name)
    if (memory := memory_of(device)) is not None:
        yield Examined("memory", "ok", f"{memory / 2**30:,.1f} GiB")
    precision = best_precision(device)
    if precision == "bf16":
        yield Examined("bf16", "ok", "multiplied by the hardware")
    else:
        yield Examined(
            "bf16", "limited", "emulated, which is slow", f"write precision: auto in recipes, which is {precision} here"
        )


def examine_compiler() -> Iterator[Examined]:
    """Whether `torch.compile` works: a small function is compiled."""
    import torch

    from tinyllama.model.devices import choose_device
    from tinyllama.model.torch_internals import compiler_errors

    try:
        torch.compile(_example, dynamic=False)(torch.ones(64, device=choose_device()))
    except compiler_errors() as error:
        reason = str(error).strip().partition("\n")[0]
        yield Examined(
            "compile", "limited", f"torch.compile fails ({reason})",
            "install a C++ compiler and Python's headers, or set hardware.compile: false; training is slower without",
        )  # fmt: skip
    else:
        yield Examined("compile", "ok", "torch.compile works")


def examine_disks() -> Iterator[Examined]:
    """Room and permission to write in the current folder and in the cache."""
    for name, folder, remedy in (
        ("disk", Path.cwd(), "work in another folder, or name one with --run"),
        ("cache", cache_folder(), "name another folder in TINYLLAMA_CACHE"),
    ):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
        result = f"{folder}: {free / 1e9:,.1f} GB are free"
        if not (there.is_dir() and os.access(there, os.W_OK)):
            yield Examined(name, "broken", f"{folder} is no folder that can be written", remedy)
        elif free < _ENOUGH:
            yield Examined(name, "broken" if free < _SCARCE else "limited", result, f"make room, or {remedy}")
        else:
            yield Examined(name, "ok", result)


def _example(numbers: Tensor) -> Tensor:
    return numbers.sin() + 1
