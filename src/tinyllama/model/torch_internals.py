"""Every symbol of torch that we use and that has no public name, in one place.

| what | gains | without it |
|---|---|---|
| `mkldnn` linear operators | products with a packed matrix, which need not be rearranged each time | plain products |
| `_softmax_backward_data` | the gradient of softmax in one kernel | the same formula in three |
| `_foreach_copy_` | one kernel copies many tensors | one for each |
| `_dynamo.exc` | failures of the compiler are told from ours | RuntimeError alone falls back to eager |
| `_inductor.codecache` | the header of all kernels is compiled while a run starts | the first step compiles it |
| `_dump_nccl_trace_json`, `_dump_fr_trace_json` | the collectives before a hang | none are written |
| `cuda.memory._record_memory_history` | a profile shows which code holds a GPU's memory | no snapshot |
| `StateDictStager` | copies in pinned host memory that is used again | a new copy each time |
| fake tensors, dispatch modes, `fake` process group | a rank's memory is measured without its GPU | only the estimate |

`tests/model/test_torch_internals.py` finds out whether they are there. Modules that are slow to import are imported
where they are used.
"""

# ruff: noqa: SLF001  # private names are what this module is for

from __future__ import annotations

from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torch import Tensor

_MEMORY_EVENTS = 200_000
"""Most allocations and releases that a snapshot of a GPU's memory holds, the last ones."""

__all__ = [
    "TorchDispatchMode",
    "can_pack",
    "compiler_errors",
    "compiler_reason",
    "copy_all",
    "fake_process_group",
    "header_compilation",
    "host_stager",
    "is_fake",
    "multiplies_in_bf16",
    "pack_linear",
    "packed_linear",
    "record_memory",
    "recorded_collectives",
    "shapes_only",
    "silent_backend",
    "softmax_backward",
    "tree_leaves",
    "unchecked_groups",
]


def host_stager(*, pinned: bool) -> Callable[..., dict[str, Tensor]]:
    """A function that copies tensors (name → tensor) to host memory, the same memory each time.

    Args:
        pinned: use memory from and to which CUDA devices copy in the background; `non_blocking=True` then starts a copy
            on the current stream.
    """
    from torch.distributed.checkpoint._state_dict_stager import StateDictStager

    stager = StateDictStager(pin_memory=pinned)
    return stager.stage


def can_pack(weight: Tensor) -> bool:
    """Whether oneDNN multiplies with a packed copy of a matrix: on a CPU, in fp32, or in bf16 if the CPU supports it.

    Fake tensors, which hold no data, cannot be packed.
    """
    if weight.device.type != "cpu" or is_fake(weight) or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    return multiplies_in_bf16() if weight.dtype == torch.bfloat16 else weight.dtype == torch.float32


def multiplies_in_bf16() -> bool:
    """Whether oneDNN multiplies in bf16 on this CPU; PyTorch's own loops are slower than fp32."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return supported is not None and bool(supported())


def pack_linear(weight: Tensor, rows: int) -> Tensor:
    """A matrix [out, in] in oneDNN's layout for inputs of about `rows` rows; `can_pack` must hold."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
    return packed


def packed_linear(x: Tensor, packed: Tensor) -> Tensor:
    """`x @ weight.T` with what `pack_linear` made of the weight: [rows, in] → [rows, out]."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
    return product


def softmax_backward(grad: Tensor, probabilities: Tensor) -> Tensor:
    """Gradient by the scores of a softmax over the last dimension, from that by its probabilities."""
    if hasattr(torch, "_softmax_backward_data"):
        return torch._softmax_backward_data(grad, probabilities, -1, probabilities.dtype)
    product = grad * probabilities
    return product - probabilities * product.sum(-1, keepdim=True)


def copy_all(targets: list[Tensor], sources: list[Tensor]) -> None:
    """Copy each source to its target, rounding to its type."""
    if hasattr(torch, "_foreach_copy_"):
        torch._foreach_copy_(targets, sources)
        return
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)


def record_memory(device: torch.device) -> Callable[[Path], None] | None:
    """Begin to record which code holds the memory of a CUDA device.

    Returns:
        A function that writes what was recorded to a file for PyTorch's viewer, and ends the recording; None for
        another device.
    """
    begin = getattr(torch.cuda.memory, "_record_memory_history", None)
    dump = getattr(torch.cuda.memory, "_dump_snapshot", None)
    if device.type != "cuda" or begin is None or dump is None:
        return None
    begin(max_entries=_MEMORY_EVENTS)

    def write(path: Path) -> None:
        dump(str(path))
        begin(enabled=None)

    return write


def recorded_collectives() -> bytes:
    """The collectives that this process began last, and whether they ended, as JSON: PyTorch's flight recorder.

    NCCL has a recorder of its own, which only PyTorch built for GPUs has; the other one holds what gloo did.
    """
    module = torch._C._distributed_c10d
    dump = getattr(module, "_dump_nccl_trace_json", None) or getattr(module, "_dump_fr_trace_json", None)
    return b"{}" if dump is None else bytes(dump())


def compiler_errors() -> tuple[type[Exception], ...]:
    """What torch.compile raises where it does not work."""
    try:
        from torch._dynamo.exc import TorchDynamoException
    except ImportError:
        return (RuntimeError, OSError)
    return (TorchDynamoException, RuntimeError, OSError)


def compiler_reason(error: Exception) -> str:
    """The line of a compiler's error that says why: after `backend='inductor' raised:`, the next one."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.endswith("raised:")]
    return lines[0].strip() if lines else type(error).__name__


def header_compilation() -> Callable[[], None]:
    """A function that compiles the header that all CPU kernels share, which takes 5 s, for use in another thread.

    The compiler is imported here, since imports in two threads at once may wait for each other.
    """
    try:
        from torch._inductor.codecache import CppPythonBindingsCodeCache
    except ImportError:
        return lambda: None

    def compile_header() -> None:
        # A missing compiler, for example, is reported where a kernel is compiled.
        with suppress(Exception):
            # Compiles the header at once; it compiles a kernel only when its result is called.
            CppPythonBindingsCodeCache.load_pybinding_async([], "")

    return compile_header


def is_fake(tensor: Tensor) -> bool:
    """Whether a tensor has a shape and no data."""
    from torch._subclasses.fake_tensor import FakeTensor

    return isinstance(tensor, FakeTensor)


def shapes_only() -> AbstractContextManager[Any]:
    """A mode in which new tensors have shapes and no data."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode(allow_non_fake_inputs=True)


def silent_backend() -> str:
    """The name of a backend whose collectives send nothing, which exists once its module is imported."""
    import_module("torch.testing._internal.distributed.fake_pg")
    return "fake"


@contextmanager
def fake_process_group(ranks: int) -> Iterator[None]:
    """Be rank 0 of a process group whose collectives send nothing."""
    from torch import distributed
    from torch.testing._internal.distributed.fake_pg import FakeStore

    with unchecked_groups():
        distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=ranks)
        try:
            yield
        finally:
            distributed.destroy_process_group()


@contextmanager
def unchecked_groups() -> Iterator[None]:
    """Make process groups without the checks of TORCH_DISTRIBUTED_DEBUG=DETAIL.

    These send, before each collective, so that groups whose collectives send nothing cannot have them.
    """
    from torch._C._distributed_c10d import DebugLevel, get_debug_level, set_debug_level

    level = get_debug_level()
    set_debug_level(DebugLevel.OFF)
    try:
        yield
    finally:
        set_debug_level(level)
