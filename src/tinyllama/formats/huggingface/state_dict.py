"""Weights as safetensors under transformers' names, in one file or in several with an index."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from tinyllama.files import write_json
from tinyllama.formats.huggingface.safetensors_writer import write_safetensors
from tinyllama.formats.huggingface.tensors import INDEX, WEIGHTS, hub_name
from tinyllama.model.stored_weights import parameter_shapes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch
    from torch import Tensor

    from tinyllama.recipe import ModelShape

SHARD_BYTES = 5_000_000_000
"""A file holds at most this much (or one tensor that is larger): what the hub's own tools take."""


def write_weights(
    weights: Mapping[str, Tensor], shape: ModelShape, folder: Path, dtype: torch.dtype, shard_bytes: int = SHARD_BYTES
) -> None:
    """Write `model.safetensors`, or numbered parts and their index where it would exceed `shard_bytes`.

    Tensors are read from `weights` one at a time, so that only one is in memory at once. A tied head is not stored:
    the config states that it is the embedding.
    """
    sizes = parameter_shapes(shape)
    parts = _split(sizes, dtype, shard_bytes)
    file_of: dict[str, str] = {}
    for number, names in enumerate(parts, start=1):
        name = WEIGHTS if len(parts) == 1 else f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        stored = {hub_name(ours): sizes[ours] for ours in names}
        write_safetensors(folder / name, stored, (weights[ours] for ours in names), dtype)
        file_of |= dict.fromkeys(stored, name)
    if len(parts) > 1:
        total = sum(map(prod, sizes.values())) * dtype.itemsize
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": file_of})


def _split(sizes: Mapping[str, tuple[int, ...]], dtype: torch.dtype, shard_bytes: int) -> list[list[str]]:
    """Names in order, cut before the tensor that would make a part too large."""
    parts: list[list[str]] = [[]]
    held = 0
    for name, size in sizes.items():
        bytes_ = prod(size) * dtype.itemsize
        if parts[-1] and held + bytes_ > shard_bytes:
            parts.append([])
            held = 0
        parts[-1].append(name)
        held += bytes_
    return parts
