"""Activation checkpointing and sharding, applied to a model from outside.

Sharding is FSDP2 over a mesh of replicas x shards: inside a group of ranks each holds a part of every weight, and
groups are replicas of each other (hybrid sharding). Weights are gathered block by block in the precision of the
products; gradients are summed over ranks in fp32, and every rank updates its own part of the fp32 weights.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

from tinyllama.plan.hardware import fits_gathered
from tinyllama.train.precision import DTYPES

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tinyllama.model import Llama
    from tinyllama.recipe import Recipe
    from tinyllama.train.ranks import Ranks


def checkpoint_activations(model: Llama) -> None:
    """Keep only the input of each block for the backward pass, which computes the rest again; nothing is random."""
    for block in model.layers:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)


def stays_gathered(recipe: Recipe, ranks: Ranks, memory: int | None = None) -> bool:
    """Whether sharded weights are gathered once per step, and stay whole in the precision of the products.

    Otherwise each block is gathered for its forward and again for its backward pass, in every micro-batch.

    Args:
        recipe: the model, and how it is sharded.
        ranks: that train together.
        memory: bytes of the device of each rank; None for those of this rank's.

    Raises:
        RecipeError: `hardware.shard` does not divide the ranks.
    """
    sharded_over = recipe.hardware.sharded_over(ranks.count, ranks.per_node)
    return fits_gathered(recipe, sharded_over, ranks.memory if memory is None else memory)


def shard(model: Llama, recipe: Recipe, ranks: Ranks, *, gathered: bool) -> None:
    """Divide a model, whole and equal on all ranks, among them; its weights become fp32 parts.

    Args:
        model: the model.
        recipe: its precision, and how it is sharded.
        ranks: that train together.
        gathered: keep its blocks whole after a forward pass, see `stays_gathered`.

    Raises:
        RecipeError: `hardware.shard` does not divide the ranks.
    """
    mesh = ranks.mesh(recipe.hardware.sharded_over(ranks.count, ranks.per_node))
    policy = MixedPrecisionPolicy(param_dtype=DTYPES[recipe.precision], reduce_dtype=torch.float32)
    for module in (*model.layers, model):
        # Of the whole model, these are embeddings, head and the last norm, which stay gathered anyway.
        resharded = None if module is model else not gathered
        part = cast("FSDPModule", fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=resharded))
        # The loss is scaled by the targets of all ranks, so that gradients are summed, not averaged.
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(enable=True)
    register_fsdp_forward_method(model, "hidden")


def begin_pass(model: nn.Module, *, last: bool, gathered: bool) -> None:
    """Prepare a sharded model for a micro-batch.

    Gradients are summed over replicas only after the last one; inside a group they are summed after each.

    Args:
        model: the model; one that is not sharded needs nothing.
        last: whether the pass is the step's last.
        gathered: what `shard` was told; weights then stay whole until the last backward pass.
    """
    if isinstance(model, FSDPModule):
        model.set_requires_all_reduce(last)
        model.set_reshard_after_backward(last or not gathered)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor of which ranks may hold parts."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
