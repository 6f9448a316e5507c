"""Cross-entropy over the head without ever holding all logits.

Shapes: N targets, D width, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tinyllama.corpus.rows import IGNORED

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 256
"""Rows whose softmax is computed at a time: few enough to stay in cache between its passes."""

BLOCK = 1024
"""Rows of logits held at a time: enough for one efficient product that gives the head's gradient."""


def softmax_gradient(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Losses in nats [N] (fp32) and gradients by logits [N, V] (dtype of `logits`); zeros where ignored."""
    wide = logits.float()
    peak = wide.amax(-1, keepdim=True)
    exponentials = (wide - peak).exp()
    total = exponentials.sum(-1, keepdim=True)
    kept = targets != IGNORED
    at = targets.clamp_min(0)[:, None]
    losses = (total.log() + peak - wide.gather(1, at))[:, 0] * kept
    columns = torch.arange(logits.shape[1], device=logits.device)
    gradient = (exponentials / total - (columns[None, :] == at).float()) * kept[:, None]
    return losses, gradient.to(logits.dtype)


class _HeadLoss(torch.autograd.Function):
    """Gradients are made in the forward pass, block by block, and take the place of the logits."""

    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917  # torch passes arguments by position
        ctx: Any,  # noqa: ANN401  # torch gives no type for it
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        scale: float,
        kernel: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    ) -> Tensor:
        by_hidden = torch.empty_like(hidden)
        by_weight: Tensor | None = None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        held = torch.empty(min(BLOCK, len(hidden)), len(weight), dtype=hidden.dtype, device=hidden.device)
        for start in range(0, len(hidden), BLOCK):
            block = hidden[start : start + BLOCK]
            logits = held[: len(block)]
            for at in range(0, len(block), CHUNK):
                part = logits[at : at + CHUNK]
                torch.mm(block[at : at + CHUNK], weight.T, out=part)
                losses, gradient = kernel(part, targets[start + at : start + at + CHUNK])
                part.copy_(gradient)
                total += losses.sum()
                torch.mm(part, weight, out=by_hidden[start + at : start + at + CHUNK])
            product = logits.T @ block
            by_weight = product.float() if by_weight is None else by_weight.add_(product)
        assert by_weight is not None  # noqa: S101  # there is at least one row
        ctx.save_for_backward(by_hidden.mul_(scale), by_weight.mul_(scale).to(weight.dtype))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401  # as in forward
        by_hidden, by_weight = ctx.saved_tensors
        return by_hidden, by_weight, None, None, None


def head_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    scale: float,
    kernel: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = softmax_gradient,
) -> Tensor:
    """Summed cross-entropy in nats of `hidden @ weight.T` against `targets`.

    Args:
        hidden: normed states [N, D].
        weight: the head [V, D].
        targets: ids [N]; IGNORED where nothing is predicted.
        scale: what `backward` multiplies gradients with, usually 1 / (predicted targets of the whole batch).
        kernel: `softmax_gradient` or a compiled version of it.

    Returns:
        The unscaled sum (fp32). Call `backward` on it directly: its gradients are those of scale x sum.
    """
    loss: Tensor = _HeadLoss.apply(hidden, weight, targets, scale, kernel)  # type: ignore[no-untyped-call]
    return loss
