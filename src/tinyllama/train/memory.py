"""The memory of one rank of a cluster, measured on a machine that has none of its GPUs.

One step of the recipe's model is run as one of many ranks would run it, on tensors that have shapes and no data
(FakeTensor) and collectives that send nothing (PyTorch's `fake` process group). Sharding and optimizer are those of
training, so that the count is what training would hold.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils.weak import WeakIdKeyDictionary

from tinyllama.model import HeadLoss, Llama, shifted_exponentials
from tinyllama.model.devices import CPU
from tinyllama.model.torch_internals import TorchDispatchMode, fake_process_group, shapes_only, tree_leaves
from tinyllama.train.average import RunningAverage
from tinyllama.train.optimizer import build_optimizer
from tinyllama.train.parallel import begin_pass, checkpoint_activations, shard, stays_gathered
from tinyllama.train.precision import MasterWeights
from tinyllama.train.ranks import Ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableMapping

    from tinyllama.recipe import Recipe

_PASSES = 2
"""Micro-batches of the step: in the second, gradients of the first are held beside its activations."""


@dataclass(frozen=True)
class RankMemory:
    """Bytes on one rank at the peak of a step; checkpoints are written from host memory."""

    micro_batch: int
    """Sequences in a pass."""
    weights: int
    """fp32, this rank's part."""
    gradients: int
    """fp32, this rank's part."""
    moments: int
    """The optimizer's, and the running average of the weights, fp32, this rank's part."""
    activations: int
    """The rest: activations, gathered weights and buffers of collectives."""

    @property
    def total(self) -> int:
        """Sum of all parts."""
        return self.weights + self.gradients + self.moments + self.activations


def measure_memory(recipe: Recipe, ranks: int, per_node: int, memory: int) -> RankMemory:
    """Run a step of the recipe's model as rank 0 of `ranks`, without data, and count what it holds.

    Args:
        recipe: the model, and how it is run.
        ranks: of the whole cluster.
        per_node: GPUs of a node.
        memory: bytes of each GPU.

    Raises:
        RecipeError: `hardware.shard` does not divide the ranks.
    """
    with fake_process_group(ranks):
        here = Ranks(0, ranks, per_node, device=CPU)
        gathered = ranks > 1 and stays_gathered(recipe, here, memory)
        return measure_step(recipe, here, recipe.micro_batch, gathered=gathered)


def measure_step(recipe: Recipe, ranks: Ranks, micro_batch: int, *, gathered: bool) -> RankMemory:
    """Run a step of the recipe's model as this rank, without data, and count what it holds.

    Args:
        recipe: the model, and how it is run.
        ranks: whose collectives send nothing.
        micro_batch: sequences in a pass.
        gathered: whether sharded weights stay gathered during a step, see `stays_gathered`.

    Raises:
        RecipeError: `hardware.shard` does not divide the ranks.
    """
    without_data, here = shapes_only(), replace(ranks, device=CPU)
    with without_data:
        model = Llama(recipe.model)
    if recipe.hardware.activation_checkpointing:
        checkpoint_activations(model)
    alone = here.count == 1
    if not alone:
        shard(model, recipe, here, gathered=gathered)  # outside: the mesh is real
    with without_data:
        masters = MasterWeights(model, recipe.precision if alone else "fp32").masters
        optimizer = build_optimizer(recipe.optimizer, masters, recipe.widening)
        loss = HeadLoss(shifted_exponentials)
        averages = RunningAverage(recipe, masters).tensors.values()
        with _Held(map(_own, (*masters.values(), *_moments(optimizer), *averages))) as held:
            for number in range(_PASSES):
                begin_pass(model, last=number == _PASSES - 1, gathered=gathered)
                _pass(model, loss, micro_batch)
        # Clipping and the update change weights, gradients and moments in place.
        gradients = _bytes(weight.grad for weight in masters.values() if weight.grad is not None)
    weights = _bytes(masters.values())
    moments = _bytes([*_moments(optimizer), *averages])
    return RankMemory(
        micro_batch=micro_batch,
        weights=weights,
        gradients=gradients,
        moments=moments,
        activations=held.most - weights - gradients - moments,
    )


class _Held(TorchDispatchMode):  # type: ignore[no-untyped-call]  # as torch has it
    """While entered, finds the most bytes that were alive at once."""

    def __init__(self, held: Iterable[Tensor]) -> None:
        """Begin with the tensors `held`, which stay to the end."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._held = WeakIdKeyDictionary({tensor.untyped_storage(): None for tensor in held})
        self._always = self.most = sum(storage.nbytes() for storage in self._held)
        self._others: MutableMapping[torch.UntypedStorage, int] = WeakIdKeyDictionary()
        """Storage → its bytes when an operation last read or wrote it."""
        self._bound = self.most
        """Bytes that may be alive: those of the last count, and all storages that grew since."""

    def __torch_dispatch__(  # torch's name
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,  # torch's signature
    ) -> Any:  # noqa: ANN401  # as the operation
        """Run one operation and note its results."""
        if DTensor in types:
            return NotImplemented  # comes again, as operations on this rank's parts
        result = func(*args, **kwargs or {})
        for leaf in tree_leaves((args, kwargs, result)):
            if isinstance(leaf, Tensor):
                self._note(leaf.untyped_storage())
        if self._bound > self.most:  # else not worth the time of a count
            # FSDP frees gathered weights by resizing their storage.
            alive = {storage: storage.nbytes() for storage in self._others}
            self._others.update(alive)
            self._bound = self._always + sum(alive.values())
            self.most = max(self.most, self._bound)
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        if storage not in self._held:
            size = storage.nbytes()
            self._bound += max(0, size - self._others.setdefault(storage, 0))
            self._others[storage] = size


def _moments(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [state[name] for state in optimizer.state.values() for name in state if name != "step"]


def _pass(model: Llama, loss: HeadLoss, micro_batch: int) -> None:
    """One micro-batch forward and backward."""
    tokens = torch.zeros(micro_batch, model.shape.context, dtype=torch.int64)
    hidden = model.hidden(tokens).flatten(0, 1)
    loss(hidden, model.lm_head.weight, tokens.flatten(), scale=1.0).backward()  # type: ignore[no-untyped-call]


def _own(tensor: Tensor) -> Tensor:
    """This rank's part."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _bytes(tensors: Iterable[Tensor]) -> int:
    """Of this rank's parts."""
    return sum(part.numel() * part.element_size() for part in map(_own, tensors))
