"""Weights as safetensors under transformers' names, in one file or in several with an index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetensors.torch import save_file

from tinyllama.files import write_json
from tinyllama.model.folder import HEAD, INDEX, WEIGHTS, hub_name

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor

    from tinyllama.model import Llama

SHARD_BYTES = 5_000_000_000
"""A file holds at most this much (or one tensor that is larger): what the hub's own tools take."""


def write_weights(model: Llama, folder: Path, dtype: torch.dtype, shard_bytes: int = SHARD_BYTES) -> None:
    """Write `model.safetensors`, or numbered parts and their index where it would exceed `shard_bytes`.

    Tensors are converted to `dtype` part by part, so that at most one part is held twice. A tied head is left
    out: the config says that it is the embedding.
    """
    tensors = {hub_name(name): tensor for name, tensor in model.state_dict().items()}
    if model.shape.tied_embeddings:
        del tensors[HEAD]
    parts = _split(tensors, dtype, shard_bytes)
    if len(parts) == 1:
        _write_part(tensors, parts[0], folder / WEIGHTS, dtype)
        return
    file_of: dict[str, str] = {}
    for number, names in enumerate(parts, start=1):
        file_name = f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        _write_part(tensors, names, folder / file_name, dtype)
        file_of |= dict.fromkeys(names, file_name)
    size = sum(tensor.numel() for tensor in tensors.values()) * dtype.itemsize
    write_json(folder / INDEX, {"metadata": {"total_size": size}, "weight_map": file_of})


def _split(tensors: dict[str, Tensor], dtype: torch.dtype, shard_bytes: int) -> list[list[str]]:
    """Names in order, cut before the tensor that would make a part too large."""
    parts: list[list[str]] = [[]]
    held = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * dtype.itemsize
        if parts[-1] and held + size > shard_bytes:
            parts.append([])
            held = 0
        parts[-1].append(name)
        held += size
    return parts


def _write_part(tensors: dict[str, Tensor], names: list[str], path: Path, dtype: torch.dtype) -> None:
    part = {name: tensors[name].to("cpu", dtype).contiguous() for name in names}
    path.touch()
    mode = path.stat().st_mode
    save_file(part, path, metadata={"format": "pt"})
    path.chmod(mode)  # safetensors leaves files that their owner alone may read; an export is there to be shared
