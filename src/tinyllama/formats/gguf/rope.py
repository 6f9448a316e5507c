"""Rotary positions in a GGUF file: `linear` and `yarn` as metadata, Llama 3's scaling as a divisor for each pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import ValidationError

from tinyllama.errors import ExportError, ModelError
from tinyllama.model.rope import attention_factor, rope_frequencies, yarn_attention_factor
from tinyllama.recipe import RopeScaling
from tinyllama.record_files import first_problem

if TYPE_CHECKING:
    from tinyllama.formats.gguf.file import GgufFile
    from tinyllama.recipe import ModelShape

ROPE_FACTORS = "rope_freqs.weight"
"""A tensor of the file: what llama.cpp divides each pair's frequency by."""

_Factors = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
_Wide = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
_LLAMA3_CONTEXT = 8192
"""`original_context` of Llama 3.1 and 3.2, whose other numbers are the schema's defaults."""
_SAME = 1e-5
"""Relative difference of factors that two programs computed from the same numbers in fp32."""
_BETAS = (32.0, 1.0)
"""What llama.cpp computes YaRN with, whatever a file of a Llama says (seen in llama-cpp-python 0.3.36)."""
_PREFIX = "llama.rope.scaling."


def rope_factors(shape: ModelShape) -> _Factors | None:
    """The tensor for Llama 3's scaling [C/2]; None for the others."""
    if shape.rope_scaling is None or shape.rope_scaling.kind != "llama3":
        return None
    plain = shape.model_copy(update={"rope_scaling": None})
    zero = torch.zeros(1)
    factors: _Factors = (rope_frequencies(plain, zero) / rope_frequencies(shape, zero)).numpy()
    return factors


def scaling_metadata(shape: ModelShape) -> dict[str, str | int | float]:
    """What the file's metadata says of the others, by names of `GGUFWriter.add_…`.

    Raises:
        ExportError: GGUF has no words for the scaling, or llama.cpp does not read them.
    """
    scaling = shape.rope_scaling
    if scaling is None or scaling.kind == "llama3":
        return {}
    if scaling.kind == "dynamic":
        raise ExportError("GGUF cannot express RoPE scaling of kind dynamic; export the model as a Hugging Face folder")
    if scaling.kind == "yarn" and (scaling.beta_fast, scaling.beta_slow) != _BETAS:
        raise ExportError(
            f"RoPE scaling has beta_fast {scaling.beta_fast:g} and beta_slow {scaling.beta_slow:g}, but llama.cpp "
            "reads no others from a GGUF file than 32 and 1; export the model as a Hugging Face folder"
        )
    from gguf import RopeScalingType  # an extra

    stated: dict[str, str | int | float] = {
        "rope_scaling_type": RopeScalingType(scaling.kind),
        "rope_scaling_factor": scaling.factor,
    }
    if scaling.kind == "linear":
        return stated
    return stated | {
        "rope_scaling_orig_ctx_len": scaling.original_context or shape.context,
        # llama.cpp multiplies by YaRN's own factor anyway
        "rope_scaling_attn_factors": attention_factor(scaling) / yarn_attention_factor(scaling.factor),
    }


def with_rope_scaling(file: GgufFile, shape: ModelShape) -> ModelShape:
    """The shape with the scaling that the file states.

    Raises:
        ModelError: it is of a kind that we do not compute.
    """
    kind = file.get(f"{_PREFIX}type", str, "none")
    try:
        if ROPE_FACTORS in file.tensors:
            scaling = _llama3(file, shape)
        elif kind == "none":
            return shape
        elif kind in {"linear", "yarn"}:
            scaling = _stated(file, kind, shape.context)
        else:
            raise ModelError(f"{file.path}: RoPE scaling of kind {kind!r} is not supported; linear and yarn are")
    except ValidationError as error:
        raise ModelError(
            f"{file.path}: the RoPE scaling cannot be used: {first_problem(error)}; download it again"
        ) from error
    return shape.model_copy(update={"rope_scaling": scaling})


def _stated(file: GgufFile, kind: str, context: int) -> RopeScaling:
    factor = file.require(f"{_PREFIX}factor", float)
    if kind == "linear":
        return RopeScaling.model_validate({"kind": kind, "factor": factor})
    weight = file.get(f"{_PREFIX}attn_factor", float, 1.0)
    return RopeScaling(
        kind="yarn",
        factor=factor,
        original_context=file.get(f"{_PREFIX}original_context_length", int, context),
        beta_fast=file.get(f"{_PREFIX}yarn_beta_fast", float, _BETAS[0]),
        beta_slow=file.get(f"{_PREFIX}yarn_beta_slow", float, _BETAS[1]),
        attention_factor=None if weight == 1 else weight * yarn_attention_factor(factor),
    )


def _llama3(file: GgufFile, shape: ModelShape) -> RopeScaling:
    """The numbers that give a file's factors.

    Between short and long waves, 1 / factor is linear in the frequency; its slope and offset give `original_context`
    and `high_freq_factor` relative to `low_freq_factor`, and the three together count only as ratios.

    Raises:
        ModelError: the factors are not those of Llama 3's scaling.
    """
    factors = np.array(file.tensors[ROPE_FACTORS].data, dtype=np.float64).reshape(-1)
    largest = float(str(np.float32(factors.max(initial=1.0))))
    usual = RopeScaling(kind="llama3", factor=max(largest, 1.0), original_context=_LLAMA3_CONTEXT)
    for scaling in (usual, _solved(factors, usual, shape)):
        found = None if scaling is None else rope_factors(shape.model_copy(update={"rope_scaling": scaling}))
        if scaling is not None and found is not None and _equal(found, factors):
            return scaling
    raise ModelError(
        f"{file.path}: {ROPE_FACTORS} holds other factors than Llama 3's RoPE scaling gives; give the model as a "
        "Hugging Face folder"
    )


def _solved(factors: _Wide, usual: RopeScaling, shape: ModelShape) -> RopeScaling | None:
    """The scaling whose mixed factors lie on the same line; None where fewer than two are mixed."""
    mixed = (factors > 1 + _SAME) & (factors < usual.factor * (1 - _SAME))
    plain = rope_frequencies(shape, torch.zeros(1)).double().numpy()
    if len(factors) != len(plain) or mixed.sum() < 2:  # two points of a line
        return None
    kept = (1 / factors - 1 / usual.factor) / (1 - 1 / usual.factor)
    slope, offset = np.polyfit(plain[mixed] / (2 * np.pi), kept[mixed], 1)
    high = 1 - 1 / offset
    return usual.model_copy(update={"original_context": round(slope * (high - 1)), "high_freq_factor": float(high)})


def _equal(found: _Factors, factors: _Wide) -> bool:
    return found.shape == factors.shape and bool(np.allclose(found, factors, rtol=_SAME, atol=0))
