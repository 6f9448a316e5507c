"""Products of the blocks' matrices in 8 bits, by torchao (Micikevicius et al. 2022, FP8 Formats for Deep Learning)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from tinyllama.errors import TrainingError
from tinyllama.installation import install_hint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from tinyllama.model import Llama

_log = logging.getLogger(__name__)
_CAPABLE = 8, 9
"""Compute capability from which GPUs multiply in fp8."""
_DIVISOR = 16
"""Both sizes of a matrix must be a multiple of it."""


def use_fp8(model: Llama, contexts: Iterable[int], device: torch.device) -> None:
    """Let the blocks' linear layers multiply in fp8, each tensor with a scale of its own; weights keep their type.

    Layers with a size that is no multiple of 16 are not changed, nor are embeddings, norms, attention and the head.
    Where the device cannot multiply in fp8, that is emulated: it rounds alike but is slower than bf16.

    Args:
        model: whose layers are changed.
        contexts: tokens of the sequences that it is trained on, in all stages.
        device: that trains it.

    Raises:
        TrainingError: torchao is not installed.
    """
    try:
        from torchao.float8 import Float8LinearConfig, convert_to_float8_training  # an extra
    except ModuleNotFoundError:
        raise TrainingError(f"precision: fp8 needs an extra: {install_hint('fp8')}") from None
    emulated = device.type != "cuda" or torch.cuda.get_device_capability(device) < _CAPABLE
    if emulated:
        _log.warning("precision fp8: this device does not multiply in fp8, which is emulated; bf16 is faster here")
    # A weight's gradient is a product over the tokens of a pass; GPUs refuse a number that 16 does not divide.
    padded = any(context % _DIVISOR for context in contexts)
    config = Float8LinearConfig(emulate=emulated, pad_inner_dim=padded)
    convert_to_float8_training(model.layers, config=config, module_filter_fn=lambda module, _: _fits(module))


def _fits(module: nn.Module) -> bool:
    return all(size % _DIVISOR == 0 for weight in module.parameters() for size in weight.shape)
