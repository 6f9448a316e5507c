"""Loss and gradients of one global batch, in micro-batches; compilation applied from outside the model."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from tinyllama.model import HeadLoss, document_mask, shifted_exponentials
from tinyllama.model.torch_internals import compiler_errors
from tinyllama.train.parallel import reduce_over_replicas

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from tinyllama.corpus.manifest import Separator
    from tinyllama.model import Llama
    from tinyllama.train.feeder import StepBatch

_log = logging.getLogger(__name__)


class Gradients:
    """Adds a batch's gradients to the model: those of the mean loss over all its predicted targets."""

    def __init__(self, model: Llama, *, micro_batch: int, separator: Separator | None, compiled: bool) -> None:
        """Bind a model.

        Args:
            model: its weights receive gradients.
            micro_batch: sequences per pass; changes results only by the order of additions.
            separator: token between documents if attention must stay inside them, else None.
            compiled: compile the loss's kernel; for the model see `compile_blocks`.
        """
        self._model, self._micro_batch, self._separator = model, micro_batch, separator
        self._loss = HeadLoss(_compiled_or_eager(shifted_exponentials) if compiled else shifted_exponentials)

    def __call__(self, batch: StepBatch) -> float:
        """Accumulate gradients; returns this rank's part of the mean loss over all predicted targets, in nats."""
        device = self._model.embed_tokens.weight.device
        total = torch.zeros((), device=device)
        for start in range(0, len(batch.inputs), self._micro_batch):
            inputs = batch.inputs[start : start + self._micro_batch].to(device)
            targets = batch.targets[start : start + self._micro_batch].to(device)
            reduce_over_replicas(self._model, last=start + self._micro_batch >= len(batch.inputs))
            mask = None if self._separator is None else document_mask(inputs, self._separator)
            hidden = self._model.hidden(inputs, mask)
            head = self._model.lm_head.weight
            loss = self._loss(hidden.flatten(0, 1), head, targets.flatten(), scale=1 / batch.predicted)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return float(total) / batch.predicted


def compile_blocks(model: Llama) -> None:
    """Compile each block by itself, before the model is sharded; falls back to eager with a warning.

    All blocks are one program, compiled once, between whose runs FSDP gathers the next block's weights.
    """
    for block in model.layers:
        block.forward = _in_training(_compiled_or_eager(block.forward), block.forward)


def _in_training(compiled: Callable[..., Tensor], eager: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The eager function where no gradient is wanted: measurements have other shapes, each a program of its own."""

    def call(*arguments: Any) -> Tensor:  # noqa: ANN401  # as the functions
        return (compiled if torch.is_grad_enabled() else eager)(*arguments)

    return call


def _compiled_or_eager(function: Callable[..., Any]) -> Callable[..., Any]:
    """The compiled function; after the first failure of the compiler, the function itself."""
    chosen = torch.compile(function, dynamic=False)

    def call(*arguments: Any) -> Any:  # noqa: ANN401  # as the function
        nonlocal chosen
        try:
            return chosen(*arguments)
        except compiler_errors() as error:
            if chosen is function:
                raise
            _warn(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
            chosen = function
            return function(*arguments)

    return call


@cache
def _warn(reason: str) -> None:
    """Warn once for all blocks."""
    _log.warning("torch.compile does not work here, training continues without it: %s", reason)
