"""Loss and gradients of one global batch, in micro-batches; compilation applied from outside the model."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch

from tinyllama.model import HeadLoss, document_mask, shifted_exponentials
from tinyllama.model.documents import document_bounds
from tinyllama.model.torch_internals import compiler_errors
from tinyllama.train.parallel import begin_pass
from tinyllama.train.profile import region

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from tinyllama.model import Llama
    from tinyllama.model.documents import Documents
    from tinyllama.train.feeder import StepBatch
    from tinyllama.train.precision import LossScaler

_log = logging.getLogger(__name__)
_PROGRAMS = 64
"""Shapes of a pass that are compiled, all blocks being one function; PyTorch's own limit is 8. Sizes that are tried or
timed, last passes with fewer sequences and numbers of segments each add some; others run slowly, and may not fit."""


class Compilation:
    """Compiles functions, until the compiler fails: from then on all of them run as they are written, with a warning.

    Only a first run counts as the compiler's failure. Once a compiled function has run, and where the device is out of
    memory or fails, the error is the run's own.
    """

    def __init__(self) -> None:
        """Nothing is compiled yet."""
        self._works = self._broken = False

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, compiled at its first call."""
        compiled = torch.compile(function, dynamic=False, recompile_limit=_PROGRAMS)  # type: ignore[call-overload]  # not in its stubs

        def call(*arguments: Any) -> Any:  # noqa: ANN401  # as the function
            if self._broken:
                return function(*arguments)
            try:
                result = compiled(*arguments)
            except (torch.OutOfMemoryError, torch.AcceleratorError):
                raise
            except compiler_errors() as error:
                if self._works:
                    raise
                self._broken = True
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                _log.warning("torch.compile does not work here, training continues without it: %s", reason)
                return function(*arguments)
            self._works = True
            return result

        return call


class Gradients:
    """Adds a batch's gradients to the model: those of the mean loss over all its predicted targets."""

    def __init__(  # noqa: PLR0913  # each by name
        self,
        model: Llama,
        *,
        micro_batch: int,
        documents: Documents | None,
        compiled: bool,
        z_loss: float = 0.0,
        scaler: LossScaler | None = None,
        gathered: bool = False,
    ) -> None:
        """Bind a model.

        Args:
            model: its weights receive gradients.
            micro_batch: sequences per pass; changes results only by the order of additions.
            documents: how attention stays inside documents; None lets it cross them.
            compiled: compile the loss's kernel; for the model see `compile_blocks`.
            z_loss: coefficient of the z-loss, which the gradients then include.
            scaler: whose scale the gradients are multiplied by.
            gathered: whether a sharded model was told to keep its weights gathered, see `stays_gathered`.
        """
        self._scaler, self._gathered = scaler, gathered
        self._model, self._documents = model, documents
        self.micro_batch = micro_batch
        """Sequences in a pass."""
        self._loss = HeadLoss(Compilation()(shifted_exponentials) if compiled else shifted_exponentials, z_loss)

    def __call__(self, batch: StepBatch) -> tuple[Tensor, Tensor]:
        """Accumulate gradients of the mean loss; returns sums over this rank's targets: loss in nats, and log² Z.

        The sums stay on the device, so that the host does not wait for them.
        """
        device = self._model.embed_tokens.weight.device
        total, z_total = torch.zeros((), device=device), torch.zeros((), device=device)
        scale = (1 if self._scaler is None else self._scaler.state.scale) / batch.predicted
        # From pinned memory, which the batch holds until the step is done.
        all_inputs, all_targets = (part.to(device, non_blocking=True) for part in (batch.inputs, batch.targets))
        bounds = self._bounds(batch.inputs, device)
        for number, start in enumerate(range(0, len(batch.inputs), self.micro_batch)):
            inputs = all_inputs[start : start + self.micro_batch]
            targets = all_targets[start : start + self.micro_batch]
            last = start + self.micro_batch >= len(batch.inputs)
            begin_pass(self._model, last=last, gathered=self._gathered)
            with region("forward"):
                if bounds is not None:
                    mask: Tensor | None = bounds[number]
                else:
                    mask = None if self._documents is None else document_mask(inputs, self._documents.separator)
                hidden = self._model.hidden(inputs, mask)
                head = self._model.lm_head.weight
                loss = self._loss(hidden.flatten(0, 1), head, targets.flatten(), scale=scale)
            with region("backward"):
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
            z_total += self._loss.z_sum
        return total, z_total

    def _bounds(self, inputs: Tensor, device: torch.device) -> Tensor | None:
        """Segments of every pass on the device, found on the host so that it need not wait for their number."""
        if self._documents is None or not self._documents.segments:
            return None
        bounds = document_bounds(inputs, self._documents.separator, self.micro_batch)
        if device.type == "cuda":
            bounds = bounds.pin_memory()  # its memory is not used again before it has been copied
        return bounds.to(device, non_blocking=True)


def compile_blocks(model: Llama) -> None:
    """Compile each block by itself, before the model is sharded.

    All blocks are one program, compiled once, between whose runs FSDP gathers the next block's weights.
    """
    compilation = Compilation()
    for block in model.layers:
        block.forward = _in_training(compilation(block.forward), block.forward)


def _in_training(compiled: Callable[..., Tensor], eager: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The eager function where no gradient is wanted: measurements have other shapes, each a program of its own."""

    def call(*arguments: Any) -> Tensor:  # noqa: ANN401  # as the functions
        return (compiled if torch.is_grad_enabled() else eager)(*arguments)

    return call
