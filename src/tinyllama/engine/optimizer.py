"""Optimizers whose state is there from the start and whose learning rate is always given from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

import torch
from torch.distributed.tensor import DTensor

from tinyllama.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import nn

    from tinyllama.recipe import Optimizer

_ADAMW, _MUON = ("exp_avg", "exp_avg_sq"), ("momentum_buffer",)


def moments_of(kind: str, weight: str) -> tuple[str, ...]:
    """Names of the moments that an optimizer of a kind keeps of a weight; all have the weight's shape."""
    return _MUON if kind == "muon" and weight.startswith("layers.") and "norm" not in weight else _ADAMW


def build_optimizer(settings: Optimizer, masters: dict[str, nn.Parameter]) -> torch.optim.Optimizer:
    """The recipe's optimizer over all weights, with moments allocated, at step 0.

    Raises:
        TrainingError: Muon is asked for on several ranks.
    """
    return _adamw(settings, masters.values()) if settings.kind == "adamw" else _Muon(settings, masters)


def _adamw(settings: Optimizer, weights: Iterable[nn.Parameter]) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019)."""
    optimizer = torch.optim.AdamW(
        weights,
        lr=0.0,  # set before every step from the plan
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    for weight in optimizer.param_groups[0]["params"]:
        moments = {name: torch.zeros_like(weight) for name in _ADAMW}
        optimizer.state[weight] = {"step": torch.tensor(0.0, device=weight.device), **moments}
    return optimizer


class _Muon(torch.optim.Muon):
    """Muon (Jordan 2024) for the blocks' matrices, AdamW for embeddings, head and norms.

    Updates are scaled to the size of AdamW's (Liu et al. 2025, "Muon is Scalable for LLM Training"), so that one
    learning rate and weight decay serve both.
    """

    def __init__(self, settings: Optimizer, masters: dict[str, nn.Parameter]) -> None:
        matrices = [weight for name, weight in masters.items() if moments_of("muon", name) == _MUON]
        if any(isinstance(weight, DTensor) for weight in matrices):
            raise TrainingError(
                "optimizer.kind: muon needs whole matrices, which several ranks do not hold; take adamw, or one process"
            )
        super().__init__(
            matrices, lr=0.0, weight_decay=settings.weight_decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        )
        self._rest = _adamw(settings, [w for name, w in masters.items() if moments_of("muon", name) == _ADAMW])
        for weight in matrices:
            self.state[weight] = {name: torch.zeros_like(weight) for name in _MUON}
        self.state.update(self._rest.state)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update everything at the learning rate of the own group."""
        self._rest.param_groups[0]["lr"] = self.param_groups[0]["lr"]
        self._rest.step()
        loss: float | None = super().step(closure)  # type: ignore[no-untyped-call]
        return loss


def set_step(optimizer: torch.optim.Optimizer, step: int) -> None:
    """Tell every moment that corrects its bias how many steps it has seen."""
    for state in optimizer.state.values():
        if "step" in state:
            state["step"].fill_(float(step))


def apply(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """One update at a learning rate computed from the recipe."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
