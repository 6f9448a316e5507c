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


def shard(model: Llama, recipe: Recipe, ranks: Ranks) -> None:
    """Divide a model, whole and equal on all ranks, among them; its weights become fp32 parts.

    Raises:
        RecipeError: `hardware.shard` does not divide the ranks.
    """
    mesh = ranks.mesh(recipe.hardware.sharded_over(ranks.count, ranks.per_node))
    policy = MixedPrecisionPolicy(param_dtype=DTYPES[recipe.precision], reduce_dtype=torch.float32)
    for module in (*model.layers, model):
        part = cast("FSDPModule", fully_shard(module, mesh=mesh, mp_policy=policy))
        # The loss is scaled by the targets of all ranks, so that gradients are summed, not averaged.
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(enable=True)
    register_fsdp_forward_method(model, "hidden")


def reduce_over_replicas(model: nn.Module, *, last: bool) -> None:
    """Sum gradients over replicas only after the last micro-batch; inside a group they are summed after each."""
    if isinstance(model, FSDPModule):
        model.set_requires_all_reduce(last)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor of which ranks may hold parts."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
