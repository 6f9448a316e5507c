"""Causal attention: PyTorch's kernels, and plain products where those are faster.

Shapes: B batch, H heads, K kv heads, T positions, S positions attended to, C head size; in blocks of positions:
G groups (B x K), R heads of a group (H / K), P positions of a block, E positions up to its end.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from tinyllama.model.torch_internals import softmax_backward

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

SHORT = 512
"""Positions up to which a CPU trains faster when it holds the probabilities of all pairs of positions."""
BLOCKS = 4
"""Blocks of positions whose probabilities are computed separately: 5/8 of the square are computed."""
PLANS_SHAPES = {"cuda"}
"""Devices on which PyTorch may choose cuDNN's attention."""


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Grouped-query attention.

    Args:
        query: [B, H, T, C].
        key: [B, K, S, C].
        value: [B, K, S, C].
        mask: True where attention may look [B or 1, 1, T, S]; or, on GPUs that have a kernel for them, the bounds of
            segments of the rows, one after another (int32, see `document_bounds`); None means causal.

    Returns:
        [B, H, T, C]
    """
    shape = query.shape
    if mask is not None and mask.dtype == torch.int32:
        return _attend_in_segments(query, key, value, mask)
    whole = mask is None and shape[2] == key.shape[2] <= SHORT
    if whole and torch.is_grad_enabled() and query.device.type == "cpu":
        scaled = (query * shape[3] ** -0.5).contiguous()
        out: Tensor = _attend_in_blocks(scaled, key.contiguous(), value.contiguous(), BLOCKS)[0]
        return out
    if shape[2] == 1:  # the heads of a group take the place of positions, so that keys they share are not copied
        query = query.reshape(shape[0], key.shape[1], -1, shape[3])
    if query.device.type == "cuda" and (mask is not None or query.dtype != torch.bfloat16):
        key, value = per_head(key, query.shape[1]), per_head(value, query.shape[1])
    mixed = functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None and shape[2] > 1,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return mixed.reshape(shape)


def _attend_in_segments(query: Tensor, key: Tensor, value: Tensor, bounds: Tensor) -> Tensor:
    """Causal attention within segments of all rows, without a mask; pairs in different segments are not computed."""
    from torch.nn.attention.varlen import varlen_attn

    batch, heads, length, size = query.shape
    query, key, value = (part.transpose(1, 2).flatten(0, 1) for part in (query, key, value))  # [B x T, H or K, C]
    mixed: Tensor = varlen_attn(  # type: ignore[assignment]  # one tensor, where nothing else is asked for
        query, key, value, bounds, bounds, length, length, window_size=(-1, 0), enable_gqa=True
    )
    return mixed.reshape(batch, length, heads, size).transpose(1, 2)


def kernels_for_any_shape(device: torch.device) -> AbstractContextManager[None]:
    """A context in which no kernel is used that CUDA plans anew for every shape, which costs up to 0.1 s for each.

    For evaluation and generation, where nearly every pass has a length of its own.
    """
    if device.type not in PLANS_SHAPES:
        return nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])


def per_head(shared: Tensor, heads: int) -> Tensor:
    """Keys or values [B, K, S, C] repeated for the heads that share them: [B, H, S, C].

    On CUDA the kernel that takes masks or fp32, or fp16 on GPUs before Ampere, without holding all scores has no
    grouped queries; with them PyTorch would take the one that holds all scores.
    """
    batch, groups, length, size = shared.shape
    return shared[:, :, None].expand(batch, groups, heads // groups, length, size).flatten(1, 2)


# A custom operator: the compiler would generate kernels for each block, which are as fast but compile 10 s longer.
@torch.library.custom_op("tinyllama::attend_in_blocks", mutates_args=())
def _attend_in_blocks(query: Tensor, key: Tensor, value: Tensor, blocks: int) -> tuple[Tensor, list[Tensor]]:
    """Attention of scaled queries, all contiguous, and the probabilities of each block, for the backward.

    The heads of a group are rows of one product. `blocks` is an argument, so that programs that were compiled for
    another number are not reused for this one.
    """
    key, value = key.flatten(0, 1), value.flatten(0, 1)  # [G, T, C]
    by_group = query.view(len(key), -1, *query.shape[2:])  # [G, R, T, C]
    out, probabilities = torch.empty_like(by_group), []
    for start, end in _bounds(query.shape[2], blocks):
        rows = _rows(by_group, start, end)
        scores = torch.bmm(rows, key[:, :end].transpose(1, 2))
        scores.view(len(key), -1, end - start, end)[..., start:].add_(_bias(end - start, query.dtype))
        probabilities.append(torch.softmax(scores, -1))
        out[:, :, start:end] = torch.bmm(probabilities[-1], value[:, :end]).view_as(out[:, :, start:end])
    return out.view_as(query), probabilities


@torch.library.custom_op("tinyllama::attend_in_blocks_backward", mutates_args=())
def _backward(
    by_out: Tensor, query: Tensor, key: Tensor, value: Tensor, probabilities: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by queries, keys and values."""
    narrow, key, value = key.shape, key.flatten(0, 1), value.flatten(0, 1)
    queries, by_outs = (part.reshape(len(key), -1, *query.shape[2:]) for part in (query, by_out))
    by_query, by_key, by_value = torch.empty_like(queries), torch.zeros_like(key), torch.zeros_like(value)
    for (start, end), weights in zip(_bounds(query.shape[2], len(probabilities)), probabilities, strict=True):
        rows, by_mixed = _rows(queries, start, end), _rows(by_outs, start, end)
        by_weights = torch.bmm(by_mixed, value[:, :end].transpose(1, 2))
        by_scores = softmax_backward(by_weights, weights)
        by_query[:, :, start:end] = torch.bmm(by_scores, key[:, :end]).view_as(by_query[:, :, start:end])
        by_key[:, :end] += torch.bmm(by_scores.transpose(1, 2), rows)
        by_value[:, :end] += torch.bmm(weights.transpose(1, 2), by_mixed)
    return by_query.view_as(query), by_key.view(narrow), by_value.view(narrow)


def _rows(by_group: Tensor, start: int, end: int) -> Tensor:
    """A block's positions of all heads of each group: [G, R, T, C] → [G, R * P, C]."""
    return by_group[:, :, start:end].reshape(len(by_group), -1, by_group.shape[3])


def _bounds(length: int, blocks: int) -> list[tuple[int, int]]:
    """Start and end of each of at most `blocks` blocks of positions."""
    size = -(-length // blocks)
    return [(start, min(start + size, length)) for start in range(0, length, size)]


@cache
def _bias(length: int, dtype: torch.dtype) -> Tensor:
    """What hides later positions when added to scores: 0 or minus infinity [P, P]."""
    return torch.full((length, length), float("-inf"), dtype=dtype).triu(1)


@_attend_in_blocks.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, blocks: int) -> tuple[Tensor, list[Tensor]]:  # noqa: ARG001  # as the operator
    """Shapes for the compiler."""
    groups, heads = key.shape[0] * key.shape[1], query.shape[1] // key.shape[1]
    bounds = _bounds(query.shape[2], blocks)
    return torch.empty_like(query), [query.new_empty(groups, heads * (end - start), end) for start, end in bounds]


@_backward.register_fake
def _(
    by_out: Tensor,  # noqa: ARG001  # as the operator
    query: Tensor,
    key: Tensor,
    value: Tensor,
    probabilities: list[Tensor],  # noqa: ARG001  # as the operator
) -> tuple[Tensor, Tensor, Tensor]:
    """Shapes for the compiler."""
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, list[Tensor]]) -> None:  # noqa: ANN401  # untyped
    ctx.save_for_backward(*inputs[:3], *output[1])


def _gradients(ctx: Any, by_out: Tensor, _: list[Tensor]) -> tuple[Tensor | None, ...]:  # noqa: ANN401  # untyped
    query, key, value, *probabilities = ctx.saved_tensors
    return *_backward(by_out, query, key, value, probabilities), None


_attend_in_blocks.register_autograd(_gradients, setup_context=_keep)
