"""Rotary positions in a `config.json`: `rope_parameters` of transformers 5, `rope_theta` and `rope_scaling` before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from tinyllama.errors import ModelError
from tinyllama.model.rope import yarn_attention_factor
from tinyllama.recipe import RopeScaling
from tinyllama.record_files import first_problem

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.formats.huggingface.tensors import JsonObject
    from tinyllama.recipe import ModelShape

_THETA = 10000.0
"""transformers' default."""
_KIND, _ORIGINAL = "rope_type", "original_max_position_embeddings"
_KEYS = {
    "linear": {"factor"},
    "dynamic": {"factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor"},
    "yarn": {"factor", "beta_fast", "beta_slow", "attention_factor"},
}
"""Keys of each kind, which have the same names in a recipe."""
_FROM_ORIGINAL = ("llama3", "yarn")


def rope_parameters(shape: ModelShape) -> JsonObject:
    """Base and scaling in the words of transformers 5."""
    scaling = shape.rope_scaling
    if scaling is None:
        return {"rope_theta": shape.rope_theta, _KIND: "default"}
    values = {key: value for key in sorted(_KEYS[scaling.kind]) if (value := getattr(scaling, key)) is not None}
    original = {_ORIGINAL: scaling.original_context or shape.context} if scaling.kind in _FROM_ORIGINAL else {}
    return {"rope_theta": shape.rope_theta, _KIND: scaling.kind, **values, **original}


def rope_scaling(shape: ModelShape) -> JsonObject | None:
    """The scaling in older words: before release 4.43 it had two kinds, with the keys `type` and `factor` alone."""
    parameters = rope_parameters(shape)
    del parameters["rope_theta"]
    if shape.rope_scaling is None or shape.rope_scaling.kind in _FROM_ORIGINAL:
        return None if shape.rope_scaling is None else parameters
    return {"type": parameters[_KIND], "factor": parameters["factor"]}


def read_rope(config: JsonObject, file: Path | str) -> tuple[float, RopeScaling | None]:
    """RoPE's base and scaling; what a config leaves out has transformers' default.

    Raises:
        ModelError: the scaling is of a kind that we do not compute.
    """
    scaling, parameters = (_object(config, key, file) for key in ("rope_scaling", "rope_parameters"))
    stated = scaling or parameters  # as transformers decides
    theta = {"rope_theta": _THETA, **config, **parameters, **stated}["rope_theta"]
    try:
        return float(theta), _scaling(stated, config, file)
    except (TypeError, ValueError, OverflowError):
        raise ModelError(f"{file}: rope_theta is {theta!r}, not a number") from None


def _object(config: JsonObject, key: str, file: Path | str) -> JsonObject:
    stated = config.get(key) or {}
    if not isinstance(stated, dict):
        raise ModelError(f"{file}: {key} is {stated!r}, not an object; download the file again")
    return stated


def _scaling(stated: JsonObject, config: JsonObject, file: Path | str) -> RopeScaling | None:
    kind = stated.get(_KIND, stated.get("type", "default"))
    whole = stated.get("partial_rotary_factor", 1.0) == 1 and stated.get("truncate", True) is True
    if kind not in {*_KEYS, "default"} or not whole:
        raise ModelError(f"{file}: RoPE of this kind is not supported: {stated}; {', '.join(_KEYS)} are")
    if kind == "default":
        return None
    values = {key: stated[key] for key in _KEYS[kind] if stated.get(key) is not None}
    if kind in _FROM_ORIGINAL:
        context = config.get("max_position_embeddings")
        values["original_context"] = config.get(_ORIGINAL) or stated.get(_ORIGINAL) or context
    try:
        scaling = RopeScaling(kind=kind, **values)
    except ValidationError as error:
        problem = first_problem(error)
        raise ModelError(f"{file}: RoPE scaling {stated} cannot be used: {problem}; download the file again") from error
    return _with_mscale(scaling, stated)


def _with_mscale(scaling: RopeScaling, stated: JsonObject) -> RopeScaling:
    """YaRN with DeepSeek's two factors as one."""
    upper, lower = stated.get("mscale"), stated.get("mscale_all_dim")
    if scaling.kind != "yarn" or scaling.attention_factor is not None or not (upper and lower):
        return scaling
    factor = yarn_attention_factor(scaling.factor, upper) / yarn_attention_factor(scaling.factor, lower)
    return scaling.model_copy(update={"attention_factor": factor})
