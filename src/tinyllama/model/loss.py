"""Cross-entropy over the head without ever holding all logits.

Shapes: N targets, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tinyllama.corpus.rows import IGNORED
from tinyllama.model.packed import Product, products_with

CHUNK = 512
"""Rows whose softmax is computed at a time on a processor: few enough to stay in cache between its passes."""

BLOCK = 2048
"""Rows of exponentials held at a time: enough for one efficient product that gives the head's gradient."""
GPU_BLOCK = 8192
"""The same on a GPU, where each block costs a pass over the head's gradient in fp32."""

Kernel = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def shifted_exponentials(logits: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
    """Write exp(logits - peak) [N, V] to `out`; returns each row's peak and the sum of what was written, fp32 [N]."""
    wide = logits.float()
    peak = wide.amax(-1, keepdim=True)
    exponentials = (wide - peak).exp().to(out.dtype)
    out.copy_(exponentials)
    return peak[:, 0], exponentials.float().sum(-1)


class HeadLoss:
    """Summed cross-entropy of hidden states under a head. It keeps its buffers from call to call."""

    def __init__(self, kernel: Kernel = shifted_exponentials, z_loss: float = 0.0) -> None:
        """Bind `shifted_exponentials` or a compiled version of it, and the coefficient of the z-loss."""
        self.kernel, self.z_loss = kernel, z_loss
        self.z_sum = torch.zeros(())
        """Sum of log² Z over the last call's predicted targets (fp32)."""
        self._held: Tensor | None = None

    def __call__(self, hidden: Tensor, weight: Tensor, targets: Tensor, *, scale: float) -> Tensor:
        """Cross-entropy in nats of `hidden @ weight.T` against `targets`.

        Args:
            hidden: normed states [N, D].
            weight: the head [V, D].
            targets: ids [N]; IGNORED where nothing is predicted.
            scale: what `backward` multiplies gradients with, usually 1 / (predicted targets of the whole batch).

        Returns:
            The unscaled sum (fp32), without z-loss. Call `backward` on it directly: its gradients are those of
            scale x (sum + z_loss x z_sum).
        """
        loss: Tensor = _HeadLoss.apply(hidden, weight, targets, scale, self)  # type: ignore[no-untyped-call]
        return loss

    def buffer(self, hidden: Tensor, weight: Tensor) -> Tensor:
        """Room for a block's exponentials; fresh pages at every step would cost more than computing them."""
        shape = min(BLOCK if hidden.device.type == "cpu" else GPU_BLOCK, len(hidden)), len(weight)
        if self._held is None or self._held.shape != shape or self._held.dtype != hidden.dtype:
            self._held = hidden.new_empty(shape)
        return self._held


class _HeadLoss(torch.autograd.Function):
    """Gradients are made in the forward pass, block by block.

    With E = exp(logits - peak) and s the sums of its rows, the gradient by logits is E / s, less 1 at the target. So
    s is taken from E at the target, and 1 / s goes to the other factor of each product, which is V / D times smaller.

    The z-loss adds z log² Z to each loss (Chowdhery et al. 2022, "PaLM"), where log Z = log s + peak. Its gradient by
    logits is 2 z log Z E / s. So with a = 1 + 2 z log Z, the sum of both is a / s times (E, less s / a at the target).
    """

    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917  # torch passes arguments by position
        ctx: Any,  # noqa: ANN401  # torch gives no type for it
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        scale: float,
        loss: HeadLoss,
    ) -> Tensor:
        held = loss.buffer(hidden, weight)
        size = CHUNK if hidden.device.type == "cpu" else len(held)
        by_rows, by_columns = _products(weight, size, len(held))
        kept, at = targets != IGNORED, targets.clamp_min(0)
        grad_hidden = torch.empty_like(hidden)
        grad_weight: Tensor | None = None
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        inverse, log_z = torch.empty_like(losses), torch.empty_like(losses)
        for start in range(0, len(hidden), len(held)):
            block = slice(start, min(start + len(held), len(hidden)))
            for first in range(start, block.stop, size):
                chunk = slice(first, min(first + size, block.stop))
                part = held[first - start : chunk.stop - start]
                losses[chunk], sums, log_z[chunk] = _chunk(by_rows(hidden[chunk]), at[chunk], part, loss)
                inverse[chunk] = kept[chunk] * scale / sums
            scaled = (hidden[block] * inverse[block, None]).to(hidden.dtype)
            grad_hidden[block] = by_columns(held[: len(scaled)]) * inverse[block, None]
            rows = held[: len(scaled)].T
            if len(hidden) > len(held) and adds_in_fp32(hidden):
                grad_weight = add_product(grad_weight, rows, scaled)
                continue
            product = rows @ scaled
            if grad_weight is not None:  # two are added as they are: the sum is rounded once in any case
                product = (grad_weight if block.stop == len(hidden) else grad_weight.float()).add_(product)
            grad_weight = product
        assert grad_weight is not None  # noqa: S101  # there is at least one row
        ctx.save_for_backward(grad_hidden, grad_weight.to(weight.dtype))
        loss.z_sum = (log_z.square() * kept).sum()
        return (losses * kept).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401  # torch gives no type for it
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden, grad_weight, None, None, None


def adds_in_fp32(tensor: Tensor) -> bool:
    """Whether products of 16-bit tensors on this device can be fp32 sums, without rounding in between."""
    if tensor.device.type != "cuda" or torch.version.hip is not None or tensor.dtype == torch.float32:
        return False
    return _has_wide_sums(tensor.device, tensor.dtype)


@cache
def _has_wide_sums(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the product that `add_product` asks for exists on a device; releases of PyTorch differ in it."""
    ones = torch.ones(16, 16, device=device, dtype=dtype)
    try:
        add_product(add_product(None, ones, ones), ones, ones)
    except (RuntimeError, TypeError):
        return False
    return True


def add_product(total: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    """Add `left @ right` to an fp32 total in place, within the product; None is a total of nothing."""
    if total is None:
        return torch.mm(left, right, out_dtype=torch.float32)
    return torch.addmm(total, left, right, out_dtype=torch.float32, out=total)


def _products(weight: Tensor, rows: int, block: int) -> tuple[Product, Product]:
    """`x @ weight.T` for x of `rows` rows, and `x @ weight` for x of a whole block."""
    if block == BLOCK:  # with a third as many rows, packing takes what it saves
        return products_with(weight, rows), products_with(weight.T, block)
    return (lambda x: x @ weight.T), (lambda x: x @ weight)


def _chunk(logits: Tensor, at: Tensor, out: Tensor, loss: HeadLoss) -> tuple[Tensor, Tensor, Tensor]:
    """Losses, s / a and log Z of some rows; `out` becomes s / a times the gradient by their logits.

    In fp16, s / a is 1.
    """
    peak, sums = loss.kernel(logits, out)
    target = logits.gather(1, at[:, None])[:, 0].float() - peak
    log_sums = sums.log()
    losses, log_z = log_sums - target, log_sums + peak
    if loss.z_loss:
        sums = sums / (1 + 2 * loss.z_loss * log_z)
    by_target = target.exp() - sums
    if out.dtype == torch.float16:  # has neither room for large s nor digits for 1 / s times the other factor
        out.div_(sums[:, None])
        by_target, sums = by_target / sums, torch.ones_like(sums)
    # As an index and not as a scatter, which copies `out` there and back.
    out[torch.arange(len(at), device=at.device), at] = by_target.to(out.dtype)
    return losses, sums, log_z
