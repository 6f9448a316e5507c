"""The training step on a GPU that is not there: tensors with a device and shapes but no data, ranks that send nothing.

The device is PrivateUse1, named "gpu": a PyTorch without CUDA has no guard for "cuda", which autograd and FSDP need,
but lets Python give one for this device. Under `FakeTensorMode` an operation that mixes devices raises.

    python -m tests.train.fake_gpu '[[4, 2, "hardware.shard=all"], …]'

runs each case (ranks, ranks per node, overrides) in a process that forks from one that has imported everything, and
prints for each a line of JSON: where the host waited for the device in a step of three passes, or the error.
"""

import gc
import importlib
import json
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Self

import torch
import torch._dynamo  # fake tensors import it
from torch import Tensor, distributed
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from tinyllama.corpus.manifest import Separator
from tinyllama.model import Llama
from tinyllama.model.documents import Documents
from tinyllama.recipe import ModelShape, Recipe, load_recipe
from tinyllama.train import forward_backward, training_state
from tinyllama.train.feeder import StepBatch
from tinyllama.train.forward_backward import Gradients
from tinyllama.train.ranks import Ranks
from tinyllama.train.trainer import _Trainer
from tinyllama.train.training_state import TrainingState

SMALL = ("model.layers=3", "model.context=128", "hardware.compile=false")
ROWS, MICRO_BATCH = 5, 2
GPU = "gpu"
_COPY = torch.ops.aten._to_copy.default  # noqa: SLF001  # an operator's name
_COLLECTIVES: dict[str, tuple[str, Callable[..., int]]] = {
    "c10d::_allgather_base_": ("all_gather", lambda args: args[0].nbytes),
    "c10d::_reduce_scatter_base_": ("reduce_scatter", lambda args: args[1].nbytes),
    "c10d::allreduce_": ("all_reduce", lambda args: sum(one.nbytes for one in args[0] if one.device.type == GPU)),
    "_c10d_functional::all_gather_into_tensor": ("all_gather", lambda args: args[0].nbytes * args[1]),
}
"""Kind of each collective that sends tensors, not only numbers, and the bytes of its whole tensor."""


class Stream:
    """A stream on which nothing is queued, and its events."""

    def __init__(self, *_arguments: object, **_options: object) -> None: ...
    def wait_stream(self, _other: object) -> None: ...
    def wait_event(self, _event: object) -> None: ...
    def record_event(self, *_arguments: object) -> "Stream":
        return self

    def record(self, *_arguments: object) -> None: ...
    def wait(self, *_arguments: object) -> None: ...
    def synchronize(self) -> None: ...
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None: ...


class Backend(_DummyBackendModule):  # type: ignore[misc]  # untyped
    """What FSDP and checkpointing ask of a device's module; a missing name aborts the process."""

    Stream = Event = Stream
    total_memory = 40 * 2**30

    def get_device_properties(self, *_arguments: object) -> SimpleNamespace:
        return SimpleNamespace(total_memory=self.total_memory)

    def current_stream(self, *_arguments: object) -> Stream:
        return Stream()

    def stream(self, stream: Stream) -> Stream:
        return stream

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


class Waits(TorchDispatchMode):  # type: ignore[misc]  # untyped
    """Counts, by function of ours, where the host waits for the device; gives numbers, which fake tensors lack."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()
        self.kernels: Counter[str] = Counter()
        """Kernels of attention."""
        self.orthogonalized = 0
        """Matrices in Muon's products, of which there are ten for each."""
        self.gathers = 0
        """Blocks, or the rest of the model, whose weights are gathered."""
        self.sent: Counter[str] = Counter()
        """Bytes of whole weights, gradients and updates on the device, by collective."""

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # as the operation
        kwargs = kwargs or {}
        if any(issubclass(one, DTensor) for one in types):
            return NotImplemented
        if "attn" in func.name() or "attention" in func.name():
            self.kernels[func.name()] += 1
        self.gathers += "all_gather_copy_in" in func.name()
        if func.name() in _COLLECTIVES:
            kind, size = _COLLECTIVES[func.name()]
            self.sent[kind] += size(args)
        if func is torch.ops.aten.baddbmm.default:
            self.orthogonalized += len(args[1])
        if func is torch.ops.aten._local_scalar_dense.default:  # noqa: SLF001  # an operator's name
            if args[0].device.type == GPU:
                self._note("number")
            return 1.0
        if func is _COPY and _leaves(args[0], kwargs.get("device")):
            if not kwargs.get("non_blocking"):
                self._note("copy")
            elif args[0].device.type == GPU:
                self._note("copy to the host")
        return func(*args, **kwargs)

    def _note(self, what: str) -> None:
        frames = [frame for frame in traceback.extract_stack() if "/tinyllama/" in frame.filename]
        self.seen[f"{what} in {frames[-1].name if frames else 'torch'}"] += 1


def _leaves(tensor: Tensor, device: torch.device | str | None) -> bool:
    return device is not None and tensor.device.type != torch.device(device).type


def _born_there(shape: ModelShape) -> Llama:
    """A model whose tensors are made on the device: fake ones cannot be moved in place."""
    with torch.device(GPU, 0):
        return Llama(shape)


def _real_mesh(mesh: Callable[[Ranks, int], DeviceMesh]) -> Callable[[Ranks, int], DeviceMesh]:
    def make(ranks: Ranks, size: int) -> DeviceMesh:
        with unset_fake_temporarily():
            return mesh(ranks, size)

    return make


def _read_each_pass() -> None:
    original = Gradients.__call__

    def call(self: Gradients, batch: StepBatch) -> tuple[Tensor, Tensor]:
        sums = original(self, batch)
        float(sums[0])
        return sums

    Gradients.__call__ = call  # type: ignore[method-assign]


def _shrink() -> None:
    Backend.total_memory = 0


def _leave_a_tensor_on_the_cpu() -> None:
    original = Gradients.__call__

    def call(self: Gradients, batch: StepBatch) -> tuple[Tensor, Tensor]:
        total, z_total = original(self, batch)
        return total + torch.zeros(1), z_total

    Gradients.__call__ = call  # type: ignore[method-assign]


FAULTS = {"fault: reads the loss": _read_each_pass, "fault: mixes devices": _leave_a_tensor_on_the_cpu}
"""Overrides that plant a fault, to see that the tests find it."""
SMALL_CARD = "a small card"


def run_case(ranks: int, per_node: int, *overrides: str) -> dict[str, Any]:
    """One step of three passes, a measurement, and a pass after it; returns the step's waits and kernels."""
    _setup_privateuseone_for_python_backend(GPU, Backend())
    gpu = torch.device(GPU, 0)
    FakeTensorMode.avoid_device_init = property(lambda _self: True)  # type: ignore[assignment,method-assign]
    Ranks.mesh = _real_mesh(Ranks.mesh)  # type: ignore[method-assign]
    training_state.Llama = _born_there  # type: ignore[assignment,misc]
    Llama.to = lambda self, *_device: self  # type: ignore[method-assign,assignment]
    # Their number depends on ids, which are not there. On the GPU, a mask of all pairs would be a mistake.
    forward_backward.document_bounds = lambda tokens, _separator, rows: torch.zeros(  # type: ignore[attr-defined]
        -(-len(tokens) // rows), 64, dtype=torch.int32
    )
    forward_backward.document_mask = None  # type: ignore[attr-defined]
    changes = FAULTS | {SMALL_CARD: _shrink}
    for name in overrides:
        changes.get(name, lambda: None)()
    overrides = tuple(name for name in overrides if name not in changes)
    recipe = load_recipe("nano", [*SMALL, *overrides])
    here = Ranks(device=gpu)
    if ranks > 1:
        distributed.init_process_group(f"cpu:fake,{GPU}:fake", store=FakeStore(), rank=0, world_size=ranks)
        here = Ranks(0, ranks, per_node, device=gpu)
    with FakeTensorMode(allow_non_fake_inputs=False):
        return _step(recipe, here)


def _step(recipe: Recipe, here: Ranks) -> dict[str, Any]:
    state = TrainingState(recipe, here, initial=False)
    documents = Documents(Separator(1, ends=False), segments=True) if recipe.document_masking else None
    gradients = Gradients(
        state.model,
        micro_batch=MICRO_BATCH,
        documents=documents,
        compiled=False,
        scaler=state.scaler,
        z_loss=recipe.optimizer.z_loss,
        gathered=state.gathered,
    )
    tokens = torch.zeros(ROWS, recipe.model.context, dtype=torch.int64)  # on the CPU, where the feeder makes them
    batch = StepBatch(0, None, tokens, tokens, ROWS * recipe.model.context)  # type: ignore[arg-type]
    masters = state.weights.masters.values()
    with Waits() as waits:
        trainer: Any = SimpleNamespace(state=state, gradients=gradients, recipe=recipe, ranks=here)
        _Trainer._accumulate(trainer, batch)  # noqa: SLF001  # the engine's own order of calls
        state.update(1e-3)
    seen: dict[str, Any] = {"waits": dict(waits.seen), "kernels": dict(waits.kernels)}
    seen["orthogonalized"] = waits.orthogonalized // 10
    seen |= {"gathers": waits.gathers, "sent": dict(waits.sent)}
    with Waits(), torch.no_grad():
        state.model.hidden(torch.zeros(1, recipe.model.context, dtype=torch.int64, device=here.device))
    with Waits():
        gradients(batch)
    assert all(weight.grad is not None and weight.grad.dtype == torch.float32 for weight in masters)
    assert all(tensor.device == here.device for tensor in state.tensors.values())
    return seen


def main(cases: list[list[Any]]) -> None:
    """Run each case in a process of its own and print its result."""
    importlib.import_module("torchao.float8")  # which fp8 needs
    gc.collect()
    gc.freeze()  # a collection of garbage in a case would go through all that is imported, and copy it
    for ranks, per_node, *overrides in cases:
        sys.stdout.flush()
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            continue
        try:
            result: Any = run_case(ranks, per_node, *overrides)
        except BaseException as error:  # noqa: BLE001  # told to the test
            result = {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
