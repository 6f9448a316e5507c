"""Mixed precision: products in bf16, weights, accumulated gradients and moments in fp32."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from tinyllama.model.torch_internals import copy_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from tinyllama.model import Llama

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp8": torch.bfloat16}
"""Type of the working weights; fp8 products round them further, each with its own scale."""


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
