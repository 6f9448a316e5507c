"""Mixed precision: products in bf16 or fp16, weights, accumulated gradients and moments in fp32."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from tinyllama.checkpoint.state import LossScale
from tinyllama.model.torch_internals import copy_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tinyllama.model import Llama

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.bfloat16}
"""Type of the working weights; fp8 products round them further, each with its own scale."""
FIRST_SCALE, GROWTH_INTERVAL = 2.0**16, 2000
"""The scale before the first step, and the updates after which it doubles: the defaults of `torch.amp.GradScaler`."""


class LossScaler:
    """Dynamic loss scaling (Micikevicius et al. 2018, "Mixed Precision Training") by `torch.amp.GradScaler`'s rule.

    That class reads each step's result from the device once more, and its scale from the loss's gradient, which ours
    does not pass on: our loss makes gradients in the forward pass.
    """

    def __init__(self) -> None:
        """Begin before the first step."""
        self.state = LossScale(scale=FIRST_SCALE, updates=0)
        """What a checkpoint holds."""

    @torch.no_grad()
    def unscale(self, weights: Iterable[nn.Parameter]) -> None:
        """Divide the fp32 gradients by the scale, a power of two."""
        for weight in weights:
            if weight.grad is not None:
                weight.grad.mul_(1 / self.state.scale)

    def overflows(self, loss: float, norm: float) -> bool:
        """Whether a step's values are not finite and a smaller scale may help; one below 1 would not."""
        return self.state.scale > 1 and not (math.isfinite(loss) and math.isfinite(norm))

    def skipped(self) -> None:
        """Halve the scale, since a step's gradients overflowed."""
        self.state = LossScale(scale=self.state.scale / 2, updates=0)

    def updated(self) -> None:
        """Count an update; the scale doubles after many."""
        scale, updates = self.state.scale, self.state.updates + 1
        doubles = updates == GROWTH_INTERVAL
        self.state = LossScale(scale=scale * 2 if doubles else scale, updates=0 if doubles else updates)


class MasterWeights:
    """The fp32 weights of a model whose own weights are their rounded copies.

    In fp32 the model's weights are the masters. Otherwise each backward pass's gradient is added to the master's
    fp32 gradient as soon as it is complete, so that accumulation never rounds to bf16.
    """

    def __init__(self, model: Llama, precision: str) -> None:
        """Take over a model whose weights are fp32; they become `precision`."""
        dtype = DTYPES[precision]
        self._working = dict(model.named_parameters())
        if dtype == torch.float32:
            self.masters = self._working
            return
        self.masters = {name: nn.Parameter(weight.detach().clone()) for name, weight in self._working.items()}
        for name, weight in self._working.items():
            weight.data = weight.data.to(dtype)
            weight.register_post_accumulate_grad_hook(_add_to(self.masters[name]))  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def sync_working_copy(self) -> None:
        """Round the masters into the model and drop gradients."""
        for master in self.masters.values():
            master.grad = None
        if self._working is not self.masters:
            copy_all(list(self._working.values()), list(self.masters.values()))


def _add_to(master: nn.Parameter) -> Callable[[torch.Tensor], None]:
    """A hook that moves a finished gradient to the master's fp32 one."""

    def hook(weight: torch.Tensor) -> None:
        gradient = weight.grad
        if gradient is None:
            return
        if master.grad is None:
            master.grad = gradient.float()
        else:
            master.grad.add_(gradient)
        weight.grad = None

    return hook
