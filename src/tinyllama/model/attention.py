"""Causal attention: PyTorch's kernel, and plain products where those are faster.

Shapes: B batch, H heads, K kv heads, T positions, S positions attended to, C head size.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

SHORT = 512
"""Positions up to which a processor trains faster when it holds all B x H x T x T probabilities."""
BLOCKS = 4
"""Blocks of positions whose probabilities are computed separately: 5 of 8 parts of the square are left. More of them
save little more, and take longer to compile."""


@cache
def causal_bias(length: int, device: torch.device) -> Tensor:
    """What hides later positions when added to scores: 0 or minus infinity, fp32 [T, T]."""
    return torch.full((length, length), float("-inf"), device=device).triu(1)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, bias: Tensor | None) -> Tensor:
    """Grouped-query attention.

    Args:
        query: [B, H, T, C].
        key: [B, K, S, C].
        value: [B, K, S, C].
        mask: True where attention may look [B or 1, 1, T, S]; None means causal.
        bias: `causal_bias`, where plain products are to be used (without a mask, T = S).

    Returns:
        [B, H, T, C]
    """
    if bias is not None:
        out: Tensor = _PlainAttention.apply(query, key, value, bias)  # type: ignore[no-untyped-call]
        return out
    shape = query.shape
    if shape[2] == 1:  # the heads of a group take the place of positions, so that keys they share are not copied
        query = query.reshape(shape[0], key.shape[1], -1, shape[3])
    mixed = functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None and shape[2] > 1,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return mixed.reshape(shape)


class _PlainAttention(torch.autograd.Function):
    """Batched products, a block of positions at a time, so that most of what lies after a position is not computed.

    The heads of a group are rows of one product; probabilities are kept for the backward. In comments: G groups
    (B x K), R heads of a group (H / K), P positions of a block, E positions up to the block's end.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:  # noqa: ANN401  # untyped
        batch, heads, length, size = query.shape
        key, value = (part.reshape(-1, length, size).contiguous() for part in (key, value))  # [G, T, C]
        by_group = (query * size**-0.5).reshape(len(key), -1, length, size)  # [G, R, T, C]
        queries, weights, mixed = [], [], []
        for start, end in _blocks(length):
            rows = by_group[:, :, start:end].reshape(len(key), -1, size).contiguous()  # [G, R * P, C]
            scores = torch.bmm(rows, key[:, :end].transpose(1, 2)).view(-1, end - start, end).float()
            probabilities = torch.softmax(scores + bias[start:end, :end], -1).to(query.dtype)
            weights.append(probabilities.view(len(key), -1, end))  # [G, R * P, E]
            mixed.append(torch.bmm(weights[-1], value[:, :end]).view(len(key), -1, end - start, size))
            queries.append(rows)
        ctx.save_for_backward(key, value, *queries, *weights)
        ctx.shape = batch, heads, length, size
        return torch.cat(mixed, 2).view(ctx.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *by_out: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401  # untyped
        key, value, *kept = ctx.saved_tensors
        batch, heads, length, size = ctx.shape
        blocks = _blocks(length)
        by_group = by_out[0].reshape(len(key), -1, length, size)
        by_query = []
        by_key, by_value = torch.zeros_like(key), torch.zeros_like(value)
        for (start, end), query, weights in zip(blocks, kept[: len(blocks)], kept[len(blocks) :], strict=True):
            by_mixed = by_group[:, :, start:end].reshape(query.shape).contiguous()
            wide, by_weights = weights.float(), torch.bmm(by_mixed, value[:, :end].transpose(1, 2)).float()
            by_scores = (wide * (by_weights - (wide * by_weights).sum(-1, keepdim=True))).to(query.dtype)
            by_query.append((torch.bmm(by_scores, key[:, :end]) * size**-0.5).view(len(key), -1, end - start, size))
            later = 0, 0, 0, length - end
            by_key = by_key + functional.pad(torch.bmm(by_scores.transpose(1, 2), query), later)
            by_value = by_value + functional.pad(torch.bmm(weights.transpose(1, 2), by_mixed), later)
        narrow = batch, -1, length, size
        return torch.cat(by_query, 2).view(batch, heads, length, size), by_key.view(narrow), by_value.view(narrow), None


def _blocks(length: int) -> list[tuple[int, int]]:
    """Bounds of at most `BLOCKS` blocks of positions."""
    size = -(-length // BLOCKS)
    return [(start, min(start + size, length)) for start in range(0, length, size)]
