"""Rotary positions (Su et al. 2021, "RoFormer"), scaled to longer contexts as transformers does.

Shapes in comments: T positions, C head size.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from tinyllama.recipe import ModelShape, RopeScaling


def rope_tables(positions: Tensor, shape: ModelShape) -> tuple[Tensor, Tensor]:
    """Cosine and sine by which `rotate` turns queries and keys, halves layout, fp32: [..., C] each.

    Args:
        positions: of any dimensions.
        shape: the model's; its scaling stretches the waves, and YaRN's multiplies both tables too.
    """
    angles = positions.float()[..., None] * rope_frequencies(shape, positions)  # [..., C/2]
    angles = torch.cat([angles, angles], dim=-1)
    factor = attention_factor(shape.rope_scaling)
    if factor == 1:
        return angles.cos(), angles.sin()
    return angles.cos() * factor, angles.sin() * factor


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs (i, i + C/2) of each head: x [B, H, T, C], cos and sin [T, C] or [B, 1, T, C]."""
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
    return x * cos + turned * sin


def rope_frequencies(shape: ModelShape, positions: Tensor) -> Tensor:
    """Radians per position of each pair of a head, fp32: [C/2].

    Args:
        shape: the model's.
        positions: those that a `dynamic` scaling has to reach; others only take its device.
    """
    size, scaling, theta = shape.head_size, shape.rope_scaling, shape.rope_theta
    exponents = torch.arange(0, size, 2, device=positions.device, dtype=torch.float32) / size
    if scaling is None:
        return 1.0 / theta**exponents
    match scaling.kind:
        case "linear":
            return 1.0 / theta**exponents / scaling.factor
        case "dynamic":
            return 1.0 / _dynamic_base(shape, scaling.factor, positions) ** exponents
        case "llama3":
            return _llama3(1.0 / theta**exponents, scaling, scaling.original_context or shape.context)
        case "yarn":
            return _yarn(theta**exponents, scaling, scaling.original_context or shape.context, theta)


def attention_factor(scaling: RopeScaling | None) -> float:
    """What cosine and sine are multiplied by: above 1 for YaRN alone (Peng et al. 2023, equation 22)."""
    if scaling is None or scaling.kind != "yarn":
        return 1.0
    return yarn_attention_factor(scaling.factor) if scaling.attention_factor is None else scaling.attention_factor


def yarn_attention_factor(factor: float, weight: float = 1.0) -> float:
    """YaRN's factor by default; `weight` is DeepSeek's mscale."""
    return 0.1 * weight * math.log(factor) + 1.0


def _dynamic_base(shape: ModelShape, factor: float, positions: Tensor) -> Tensor:
    """The base for the positions at hand: grown, once they leave the context, so that the longest wave still fits.

    By "emozilla" 2023: https://www.reddit.com/r/LocalLLaMA/comments/14mrgpr
    """
    length = (positions.max() + 1).clamp(min=shape.context).float()
    exponent = shape.head_size / (shape.head_size - 2)
    grown: Tensor = shape.rope_theta * (factor * length / shape.context - (factor - 1)) ** exponent
    return grown


def _llama3(frequencies: Tensor, scaling: RopeScaling, original: int) -> Tensor:
    """Long waves stretched by the factor, short ones kept, a mixture of both between: Llama 3.1 (Meta 2024)."""
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    waves = 2 * math.pi / frequencies
    kept = ((original / waves - low) / (high - low)).clamp(0, 1)
    return (1 - kept) * frequencies / scaling.factor + kept * frequencies


def _yarn(powers: Tensor, scaling: RopeScaling, original: int, theta: float) -> Tensor:
    """Slow pairs interpolated by the factor, fast ones kept, a mixture of both between: Peng et al. 2023, "by parts".

    Args:
        powers: of the base, the inverse of each pair's frequency [C/2].
        scaling: of kind yarn.
        original: context.
        theta: the base.
    """
    pairs = len(powers)

    def pair_with(turns: float) -> float:
        """The pair that makes `turns` turns in the original context."""
        return pairs * math.log(original / (turns * 2 * math.pi)) / math.log(theta)

    first = max(math.floor(pair_with(scaling.beta_fast)), 0)
    last = min(math.ceil(pair_with(scaling.beta_slow)), 2 * pairs - 1)
    steps = torch.arange(pairs, device=powers.device, dtype=torch.float32) - first
    kept = 1 - (steps / max(last - first, 1e-3)).clamp(0, 1)
    return 1.0 / (scaling.factor * powers) * (1 - kept) + 1.0 / powers * kept
