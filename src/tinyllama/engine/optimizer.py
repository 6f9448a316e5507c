"""AdamW whose state is there from the start and whose learning rate is always given from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn

    from tinyllama.recipe.schema import Optimizer


def build_optimizer(settings: Optimizer, masters: dict[str, nn.Parameter]) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) over all weights, with moments allocated, at step 0."""
    optimizer = torch.optim.AdamW(
        masters.values(),
        lr=0.0,  # set before every step from the plan
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    for weight in masters.values():
        optimizer.state[weight] = {
            "step": torch.tensor(0.0, device=weight.device),
            "exp_avg": torch.zeros_like(weight),
            "exp_avg_sq": torch.zeros_like(weight),
        }
    return optimizer


def set_step(optimizer: torch.optim.Optimizer, step: int) -> None:
    """Tell every moment how many steps it has seen (for bias correction)."""
    for state in optimizer.state.values():
        state["step"].fill_(float(step))


def apply(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """One update at a learning rate computed from the recipe."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
