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
    """Batched products; the heads of a group are rows of one product, and probabilities are kept for the backward."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:  # noqa: ANN401  # untyped
        batch, heads, length, size = query.shape
        scale = size**-0.5
        query, key, value = (
            part.reshape(batch * key.shape[1], -1, size).contiguous() for part in (query * scale, key, value)
        )
        scores = torch.bmm(query, key.transpose(1, 2)).view(batch * heads, length, length)
        weights = torch.softmax(scores.float() + bias, -1).to(query.dtype).view(len(key), -1, length)
        ctx.save_for_backward(query, key, value, weights)
        ctx.shape = batch, heads, length, size
        return torch.bmm(weights, value).view(ctx.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *by_out: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401  # untyped
        query, key, value, weights = ctx.saved_tensors
        batch, heads, length, size = ctx.shape
        by_mixed = by_out[0].reshape(query.shape).contiguous()
        by_value = torch.bmm(weights.transpose(1, 2), by_mixed)
        by_weights = torch.bmm(by_mixed, value.transpose(1, 2)).float()
        wide = weights.float()
        by_scores = (wide * (by_weights - (wide * by_weights).sum(-1, keepdim=True))).to(query.dtype)
        by_query = torch.bmm(by_scores, key) * size**-0.5
        by_key = torch.bmm(by_scores.transpose(1, 2), query)
        narrow = batch, -1, length, size
        return by_query.view(batch, heads, length, size), by_key.view(narrow), by_value.view(narrow), None
