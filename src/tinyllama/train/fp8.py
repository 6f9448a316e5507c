"""Products of the blocks' matrices in 8 bits, by torchao (Micikevicius et al. 2022, FP8 Formats for Deep Learning)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from tinyllama.errors import TrainingError
from tinyllama.installation import install_hint

if TYPE_CHECKING:
    from torch import nn

    from tinyllama.model import Llama

_log = logging.getLogger(__name__)
_CAPABLE = 8, 9
"""Compute capability from which cards have such products."""
_DIVISOR = 16
"""Of both sizes of a matrix that the products take."""


def use_fp8(model: Llama, device: torch.device) -> None:
    """Let the blocks' linear layers multiply in fp8, each tensor with a scale of its own; weights keep their type.

    Layers with a size that 16 does not divide stay as they are, and so do embeddings, norms, attention and the head.
    Where the device has no such products they are emulated, which rounds as they do but is slower than bf16.

    Raises:
        TrainingError: torchao is not installed.
    """
    try:
        from torchao.float8 import Float8LinearConfig, convert_to_float8_training  # an extra
    except ModuleNotFoundError:
        raise TrainingError(f"precision: fp8 needs an extra: {install_hint('fp8')}") from None
    emulated = device.type != "cuda" or torch.cuda.get_device_capability(device) < _CAPABLE
    if emulated:
        _log.warning("precision fp8: this device has no such products, they are emulated; bf16 is faster here")
    convert_to_float8_training(
        model.layers, config=Float8LinearConfig(emulate=emulated), module_filter_fn=lambda module, _: _fits(module)
    )


def _fits(module: nn.Module) -> bool:
    return all(size % _DIVISOR == 0 for weight in module.parameters() for size in weight.shape)
