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
"""Rows of logits held at a time."""


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
    """Gradients are made in the forward pass, chunk by chunk, while the logits are at hand."""

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
        by_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, len(hidden), CHUNK):
            part = hidden[start : start + CHUNK]
            losses, gradient = kernel(part @ weight.T, targets[start : start + CHUNK])
            total += losses.sum()
            torch.mm(gradient, weight, out=by_hidden[start : start + CHUNK])
            by_weight += gradient.T @ part
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
