"""Attention that stays inside each document, in the two forms that `attend` takes.

Shapes: B rows, T positions, N bounds (one more than there are segments).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from tinyllama.corpus.manifest import Separator

_FLASH_CAPABILITY, _FLASH_HEAD = (8, 0), 256
"""The oldest compute capability, and the largest head, of the kernel for segments; heads are multiples of 8."""
_LARGE_HEADS, _LARGE_HEAD_CAPABILITIES = range(193, 225), {(8, 0), (9, 0)}
"""Heads of whose backward pass the kernel is only for some cards: A100 and H100 (PyTorch's flash_api.cpp)."""
_STEP = 64
"""Smallest step in which the number of bounds grows."""


class Documents(NamedTuple):
    """How attention stays inside documents."""

    separator: Separator
    """The token between them."""
    segments: bool = False
    """Whether by segments, which only some devices can (`without_segments`), or by masks."""


def document_mask(tokens: Tensor, separator: Separator) -> Tensor:
    """Causal attention that stays inside each document: ids [B, T] → bool [B, 1, T, T]."""
    separators = (tokens == separator.token).long()
    document = separators.cumsum(1) - (separators if separator.ends else 0)
    same = document[:, :, None] == document[:, None, :]
    return (same & torch.ones_like(same).tril())[:, None]


def document_bounds(tokens: Tensor, separator: Separator, rows: int) -> Tensor:
    """The same as segments of each pass's rows, one after another; within a segment, attention is causal.

    Rows and documents begin segments. Bounds are padded with empty segments to one of few numbers, since the compiler
    makes a program for each; the backward pass needs memory for each segment, so they are not padded to the most.

    Args:
        tokens: ids of all passes, in host memory [B, T].
        separator: the token between documents.
        rows: of a pass; the last pass may have fewer.

    Returns:
        For each pass, where segments begin and the last one ends: int32 [passes, N].
    """
    begins = tokens == separator.token
    if separator.ends:
        begins = begins.roll(1, 1)
    begins[:, 0] = True
    passes = [part.flatten() for part in torch.split(begins, rows)]
    starts = [part.nonzero()[:, 0] for part in passes]
    most = max(map(len, starts)) + 1
    step = max(_STEP, (1 << most.bit_length()) // 8)  # at most a quarter is padding, or 63
    bounds = torch.empty(len(passes), -(-most // step) * step, dtype=torch.int32)
    for own, part, first in zip(bounds, passes, starts, strict=True):
        own[: len(first)] = first
        own[len(first) :] = len(part)
    return bounds


def without_segments(device: torch.device, dtype: torch.dtype, head_size: int) -> str | None:
    """Why training cannot attend in segments, so that it needs masks; None if it can."""
    if device.type != "cuda" or torch.version.hip is not None:
        return f"{'ROCm' if device.type == 'cuda' else device.type} has no kernel for them"
    capability = torch.cuda.get_device_capability(device)
    if capability < _FLASH_CAPABILITY:
        return "GPUs before Ampere have no kernel for them"
    if dtype == torch.float32:
        return "the kernel for them takes no fp32"
    if head_size % 8 or head_size > _FLASH_HEAD:
        return f"the kernel for them takes no heads of {head_size}"
    if head_size in _LARGE_HEADS and capability not in _LARGE_HEAD_CAPABILITIES:
        return f"the kernel for them takes no heads of {head_size} on this GPU"
    return None
