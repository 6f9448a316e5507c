"""What the engines beside ours have in common: the task's files, and the record of each step."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Task:
    """Weights, rows and learning rates, as `runner.inputs.write_inputs` leaves them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inputs = torch.from_numpy(np.load(folder / "inputs.npy"))
        self.targets = torch.from_numpy(np.load(folder / "targets.npy"))
        self._rates = np.load(folder / "lr.npy").tolist()

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and targets [B, T] of one step after another, without end."""
        while True:
            yield from zip(self.inputs, self.targets, strict=True)

    def learning_rate(self, step: int) -> float:
        """Of the step that `step` others precede."""
        rate: float = self._rates[step % len(self._rates)]
        return rate


class Records:
    """Appends a line per step."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", buffering=1)
        self._step = 0

    def step(self, loss: float) -> None:
        """One more step is done; `loss` is its mean, in nats, before the update."""
        self._step += 1
        self._file.write(json.dumps({"step": self._step, "loss": loss}) + "\n")


class Masters:
    """fp32 weights and AdamW for a model whose own weights are bf16: what mixed precision takes without autocast."""

    def __init__(self, model: nn.Module) -> None:
        self._weights: list[Tensor] = list(model.parameters())
        self._masters: list[Tensor] = [nn.Parameter(weight.detach().float()) for weight in self._weights]
        self._optimizer = torch.optim.AdamW(
            self._masters, lr=0.0, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused=True
        )
        for weight in self._weights:  # buffers, such as RoPE's frequencies, stay as they are
            weight.data = weight.data.to(torch.bfloat16)

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Clip, update the masters, and round them into the model."""
        for master, weight in zip(self._masters, self._weights, strict=True):
            assert weight.grad is not None  # noqa: S101  # every weight takes part
            master.grad = weight.grad.float()
            weight.grad = None
        nn.utils.clip_grad_norm_(self._masters, 1.0)
        self._optimizer.param_groups[0]["lr"] = learning_rate
        self._optimizer.step()
        torch._foreach_copy_(self._weights, self._masters)  # what torch's own optimizers use
