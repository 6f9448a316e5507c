"""The `config.json` of a Hugging Face Llama folder, written from our shape and read as it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from tinyllama.errors import ModelError
from tinyllama.formats.huggingface.tensors import read_object
from tinyllama.recipe import ModelShape

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from tinyllama.formats.huggingface.tensors import JsonObject

CONFIG = "config.json"


def config_of_shape(shape: ModelShape, *, dtype: torch.dtype, bos_id: int, eos_id: int) -> JsonObject:
    """The `config.json` that makes transformers build this shape.

    RoPE is written twice: as `rope_parameters` for transformers 5, and as `rope_theta` for older readers and
    other tools, which ignore the former. Likewise `torch_dtype`, which every release reads.

    Args:
        shape: the model's.
        dtype: of the stored weights.
        bos_id: id of the token that begins a document.
        eos_id: id of the token that ends one.
    """
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": bos_id,
        "eos_token_id": eos_id,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "hidden_size": shape.width,
        "initializer_range": 0.02,
        "intermediate_size": shape.ffn,
        "max_position_embeddings": shape.context,
        "mlp_bias": False,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "pretraining_tp": 1,
        "rms_norm_eps": shape.norm_eps,
        "rope_parameters": {"rope_theta": shape.rope_theta, "rope_type": "default"},
        "rope_scaling": None,
        "rope_theta": shape.rope_theta,
        "tie_word_embeddings": shape.tied_embeddings,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "use_cache": True,
        "vocab_size": shape.vocab_size,
    }


def shape_of_config(config: JsonObject, file: Path | str = CONFIG) -> ModelShape:
    """The shape a `config.json` describes; what it leaves out has transformers' default.

    Args:
        config: its content.
        file: what messages call it.

    Raises:
        ModelError: it describes something else than a plain Llama 2 decoder.
    """
    _refuse_other_architectures(config, file)
    theta = _rope_theta(config, file)
    try:
        heads, width = config["num_attention_heads"], config["hidden_size"]
        shape = ModelShape(
            layers=config["num_hidden_layers"],
            width=width,
            ffn=config["intermediate_size"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            context=config.get("max_position_embeddings", 2048),
            vocab_size=config["vocab_size"],
            rope_theta=theta,
            norm_eps=config.get("rms_norm_eps", 1e-6),
            tied_embeddings=config.get("tie_word_embeddings", False),
        )
    except KeyError as error:
        raise ModelError(f"{file}: the key {error} is missing; it is needed to build the model") from error
    except ValidationError as error:
        details = "; ".join(f"{detail['loc']}: {detail['msg']}" for detail in error.errors())
        raise ModelError(f"{file}: not a possible Llama shape: {details}") from error
    if config.get("head_dim") not in (None, shape.head_dim):
        raise ModelError(
            f"{file}: head_dim is {config['head_dim']}, but only hidden_size / num_attention_heads = "
            f"{shape.head_dim} is supported"
        )
    return shape


def stored_dtype(config: JsonObject) -> str | None:
    """The precision that a `config.json` states for the stored weights, under its old or new key."""
    stated = config.get("torch_dtype") or config.get("dtype")
    return stated if isinstance(stated, str) else None


def read_config(folder: Path) -> JsonObject:
    """A folder's `config.json`.

    Raises:
        ModelError: it is not there or not a JSON object.
    """
    return read_object(folder / CONFIG, "give a Hugging Face folder of a Llama model")


def _refuse_other_architectures(config: JsonObject, file: Path | str) -> None:
    kind = config.get("model_type")
    architectures = config.get("architectures") or ["LlamaForCausalLM"]
    if kind != "llama" or architectures != ["LlamaForCausalLM"]:
        raise ModelError(
            f"{file}: model_type {kind!r} with architectures {architectures} is not supported; "
            "only 'llama' with LlamaForCausalLM is"
        )
    for key, supported in (("attention_bias", False), ("mlp_bias", False), ("hidden_act", "silu")):
        if config.get(key, supported) != supported:
            raise ModelError(f"{file}: {key} is {config[key]!r}; only {supported!r} is supported")
    if config.get("quantization_config"):
        raise ModelError(f"{file}: the weights are quantized; give the folder in full precision")


def _rope_theta(config: JsonObject, file: Path | str) -> float:
    """RoPE's base from `rope_parameters` (transformers 5) or `rope_theta` (before); refuses scaling."""
    theta = config.get("rope_theta", 10000.0)
    for key in ("rope_scaling", "rope_parameters"):
        rope = config.get(key) or {}
        if not isinstance(rope, dict):
            raise ModelError(f"{file}: {key} is {rope!r}, not an object; download the file again")
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default" or rope.get("partial_rotary_factor", 1.0) != 1.0:
            raise ModelError(f"{file}: RoPE scaling is not supported, but {key} asks for {rope}")
        theta = rope.get("rope_theta", theta)
    try:
        return float(theta)
    except (TypeError, ValueError, OverflowError):
        raise ModelError(f"{file}: rope_theta is {theta!r}, not a number") from None
