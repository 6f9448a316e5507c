"""A safetensors file written tensor by tensor; the library's own writer wants them all at once."""

from __future__ import annotations

import json
from math import prod
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torch import Tensor

_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_ALIGNMENT = 8


def write_safetensors(
    path: Path, sizes: Mapping[str, tuple[int, ...]], tensors: Iterable[Tensor], dtype: torch.dtype
) -> None:
    """Write a file: the header's length in 8 bytes, the header as JSON, then each tensor's bytes (little-endian).

    Args:
        path: the file.
        sizes: name → shape, in the order in which the tensors come.
        tensors: read one at a time and converted to `dtype`.
        dtype: of the file's tensors: fp32, fp16 or bf16.
    """
    header: dict[str, dict[str, str | list[int]]] = {"__metadata__": {"format": "pt"}}  # what transformers looks for
    offset = 0
    for name, size in sizes.items():
        end = offset + prod(size) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(size), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            data = tensor.detach().to("cpu", dtype).contiguous()
            data.reshape(-1).view(torch.uint8).numpy().tofile(file)
