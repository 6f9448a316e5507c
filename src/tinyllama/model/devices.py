"""The device that computes: chosen once by name, and given to whatever computes."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

import torch

from tinyllama.errors import UserError
from tinyllama.model.torch_internals import multiplies_in_bf16
from tinyllama.processors import available_cores
from tinyllama.system_memory import peak_memory, physical_memory

if TYPE_CHECKING:
    from types import ModuleType

CPU = torch.device("cpu")
_KINDS = ("cuda", "xpu", "mps")
"""Accelerators, in the order in which `auto` looks for them; ROCm's are "cuda" too."""
_VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")
"""Variables by which launchers give each process cards of its own."""
_OUT_OF_MEMORY = "out of memory", "ALLOC_FAILED", "can't allocate memory", "not enough memory"
"""How CUDA and Triton, CUDA's libraries, and the CPU say so, where PyTorch has no error of its own."""


def choose_device(asked: str = "auto", local_rank: int = 0) -> torch.device:
    """The device for one process.

    Args:
        asked: `auto` for an accelerator if there is one, else the CPU; `cpu`, `cuda`, `xpu` or `mps`; or one of
            several by its number, such as `cuda:1`.
        local_rank: which of the node's processes this is; it takes the accelerator of that number.

    Raises:
        UserError: the device does not exist, there are fewer than processes, or all processes would share one.
    """
    kind, _, number = asked.partition(":")
    if kind == "auto":
        kind = next((name for name in _KINDS if _count(name)), "cpu")
    if kind == "cpu":
        return CPU
    if kind == "cuda":  # the allocator reads it when it is first used; collectives on several streams fragment memory
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    count = _count(kind)
    if not count:
        raise UserError(f"device {asked}: this machine, or the installed PyTorch, has none; choose auto or cpu")
    if number and count > 1 and (processes := int(os.environ.get("LOCAL_WORLD_SIZE", "1"))) > 1:
        raise UserError(
            f"device {asked}: {processes} processes of this node would share it; write {kind}, of which each takes one"
        )
    index = int(number) if number else local_rank
    if not number and count == 1 and any(os.environ.get(name) for name in _VISIBLE):
        index = 0  # a launcher shows each process its own card
    if index >= count:
        raise UserError(
            f"device {kind}:{index}: {count} {'is' if count == 1 else 'are'} visible, numbered from 0; start at most "
            f"{count} processes on a node, or choose another device"
        )
    return torch.device(kind, index)


def set_current_device(device: torch.device) -> None:
    """Make a GPU the current one of this thread; a new thread's is the first of the node."""
    if device.type != "mps":  # which is always the only one
        torch.get_device_module(device).set_device(device)


def describe_device(device: torch.device) -> str:
    """What a device is, for people: `cuda:0 (NVIDIA H100 80GB HBM3)`, or `cpu (8 cores)`."""
    if device.type == "cpu":
        cores = available_cores()
        return f"cpu ({cores} core{'s' if cores > 1 else ''})"
    module = torch.get_device_module(device)
    return f"{device} ({module.get_device_name(device)})" if hasattr(module, "get_device_name") else str(device)


def best_precision(device: torch.device) -> str:
    """What `precision: auto` is on a device: bf16 if it multiplies in bf16, else fp16 on CUDA, else fp32.

    CUDA multiplies in bf16 from compute capability 8.0 on; before, PyTorch emulates it, as it does on processors where
    oneDNN has no bf16 kernels (x86 without AVX-512).
    """
    if device.type == "cuda":
        # What ROCm supports has no such number.
        native = bool(torch.version.hip) or torch.cuda.get_device_capability(device) >= (8, 0)
        return "bf16" if native else "fp16"
    if device.type == "xpu":
        return "bf16" if torch.xpu.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and multiplies_in_bf16() else "fp32"


def device_count(device: torch.device) -> int:
    """Number of devices of this kind that the process can see; 1 for the CPU."""
    return 1 if device.type == "cpu" else _count(device.type)


def memory_of(device: torch.device) -> int | None:
    """Bytes of memory that a device has; a machine's own for the CPU and for what shares it. None: unknown."""
    if device.type in {"cpu", "mps"}:
        return physical_memory()
    return int(torch.get_device_module(device).get_device_properties(device).total_memory)


def unused_memory(device: torch.device) -> int | None:
    """Bytes of an accelerator's own memory that nobody uses; None for the CPU and for what shares its memory."""
    if device.type in {"cpu", "mps"}:
        return None
    free_memory(device)
    return int(torch.get_device_module(device).mem_get_info(device)[0])


def most_memory(device: torch.device) -> int | None:
    """The most bytes that this process has held so far: on its own GPU, or else in all. None: unknown."""
    if device.type in {"cpu", "mps"}:
        return peak_memory()
    return int(torch.get_device_module(device).max_memory_reserved(device))


def is_out_of_memory(error: Exception) -> bool:
    """Whether the device had no memory left, be it for tensors or for the driver, a library or a kernel's code."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _OUT_OF_MEMORY)


def synchronize(device: torch.device) -> None:
    """Wait for what a device was given; on CPUs that is done already."""
    if device.type != "cpu":
        of_device = () if device.type == "mps" else (device,)
        torch.get_device_module(device).synchronize(*of_device)


def free_memory(device: torch.device) -> None:
    """Give back what a model held that is not used any more, to the device that holds it.

    Models refer to themselves in circles, so that only the collector of cycles frees their weights.
    """
    gc.collect()
    if device.type != "cpu":
        torch.get_device_module(device).empty_cache()


def _count(kind: str) -> int:
    """Number of accelerators of a kind that this process can use."""
    module: ModuleType = getattr(torch, kind)
    return int(module.device_count()) if module.is_available() else 0
