"""The `config.json` of a Hugging Face Llama folder, written from our shape and read as it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from tinyllama.errors import ModelError
from tinyllama.formats.huggingface.rope import read_rope, rope_parameters, rope_scaling
from tinyllama.formats.huggingface.tensors import read_object
from tinyllama.recipe import ModelShape
from tinyllama.record_files import first_problem

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from tinyllama.formats.huggingface.tensors import JsonObject

CONFIG = "config.json"

_CONTEXT, _MISTRAL_WINDOW = 2048, 4096
"""transformers' defaults of `max_position_embeddings` and of Mistral's `sliding_window`."""
_ARCHITECTURES = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM"}
_SUPPORTED = {"attention_bias": False, "mlp_bias": False, "hidden_act": "silu"}
_DIFFERENT = {
    "smollm3": "some of its layers have no RoPE",
    "olmo": "its norms have no weights",
    "olmo2": "its norms come after attention and feed-forward layers",
    "qwen2": "its query, key and value projections have biases",
    "qwen3": "its queries and keys are normalized",
    "mixtral": "it is a mixture of experts",
    "llama4_text": "it is a mixture of experts",
    "gemma2": "its norms, logits and attention windows differ",
    "gemma3_text": "its norms and attention windows differ",
    "phi3": "its projections are fused",
}
"""Models that people take for a Llama → what differs."""


def config_of_shape(shape: ModelShape, *, dtype: torch.dtype, bos_id: int, eos_id: int) -> JsonObject:
    """The `config.json` that makes transformers build this shape.

    RoPE is written twice: as `rope_parameters` for transformers 5, and as `rope_theta` and `rope_scaling` for older
    readers and other tools, which ignore the former. Likewise `torch_dtype`, which every release reads.

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
        "head_dim": shape.head_size,
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
        "rope_parameters": rope_parameters(shape),
        "rope_scaling": rope_scaling(shape),
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
    theta, scaling = read_rope(config, file)
    try:
        heads, width = config["num_attention_heads"], config["hidden_size"]
        shape = ModelShape(
            layers=config["num_hidden_layers"],
            width=width,
            ffn=config["intermediate_size"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim"),
            context=config.get("max_position_embeddings", _CONTEXT),
            vocab_size=config["vocab_size"],
            rope_theta=theta,
            rope_scaling=scaling,
            norm_eps=config.get("rms_norm_eps", 1e-6),
            tied_embeddings=config.get("tie_word_embeddings", False),
        )
    except KeyError as error:
        raise ModelError(f"{file}: the key {error} is missing; it is needed to build the model") from error
    except ValidationError as error:
        raise ModelError(f"{file}: not a possible Llama shape: {first_problem(error)}") from error
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
    kind = str(config.get("model_type"))
    if (reason := _DIFFERENT.get(kind)) is not None:
        raise ModelError(f"{file}: model_type {kind!r} is no plain Llama: {reason}; only plain ones are supported")
    stated, expected = config.get("architectures"), _ARCHITECTURES.get(kind)
    if expected is None or stated not in (None, [], [expected]):
        raise ModelError(
            f"{file}: model_type {kind!r} with architectures {stated} is not supported; "
            "only 'llama' with LlamaForCausalLM is, and 'mistral' with MistralForCausalLM"
        )
    for key, supported in _SUPPORTED.items():
        if config.get(key, supported) != supported:
            raise ModelError(f"{file}: {key} is {config[key]!r}; only {supported!r} is supported")
    if kind == "mistral" and config.get("sliding_window", _MISTRAL_WINDOW) is not None:
        raise ModelError(
            f"{file}: the model attends to a sliding window of {config.get('sliding_window', _MISTRAL_WINDOW)!r} "
            "tokens; only models that attend to all, with sliding_window: null, are supported"
        )
    if quantization := config.get("quantization_config"):
        method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
        raise ModelError(
            f"{file}: the weights are quantized ({method}); give the model in full precision, usually the repository "
            "that this one names as its base_model"
        )
