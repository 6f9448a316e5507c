"""A Hugging Face Llama folder and our `Llama`: both directions of its config, and reading its weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from tinyllama.errors import ModelError
from tinyllama.model.llama import Llama
from tinyllama.recipe import ModelShape

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
HEAD = "lm_head.weight"
_EMBEDDING = "embed_tokens.weight"
_PREFIX = "model."
# Buffers that releases of transformers before 4.32 stored; the config decides them.
_DERIVED = "rotary_emb.inv_freq"


def hub_name(name: str) -> str:
    """The name that transformers gives one of our parameters: all but the head live under `model.`."""
    return name if name == HEAD else _PREFIX + name


def config_of_shape(shape: ModelShape, *, dtype: torch.dtype, bos_id: int, eos_id: int) -> dict[str, Any]:
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


def shape_of_config(config: dict[str, Any]) -> ModelShape:
    """The shape a `config.json` describes; what it leaves out has transformers' default.

    Raises:
        ModelError: it describes something else than a plain Llama 2 decoder.
    """
    _refuse_other_architectures(config)
    theta = _rope_theta(config)
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
        raise ModelError(f"{CONFIG}: the key {error} is missing; it is needed to build the model") from error
    except ValidationError as error:
        details = "; ".join(f"{detail['loc']}: {detail['msg']}" for detail in error.errors())
        raise ModelError(f"{CONFIG}: not a possible Llama shape: {details}") from error
    if config.get("head_dim") not in (None, shape.head_dim):
        raise ModelError(
            f"{CONFIG}: head_dim is {config['head_dim']}, but only hidden_size / num_attention_heads = "
            f"{shape.head_dim} is supported"
        )
    return shape


def load_folder(folder: Path, dtype: torch.dtype = torch.float32) -> Llama:
    """Load a Hugging Face Llama folder: `config.json` and one or several safetensors files.

    Args:
        folder: the folder.
        dtype: what the weights are converted to; the stored precision does not matter.

    Raises:
        ModelError: the folder holds no model, one that is damaged, or one that we do not support.
    """
    shape = shape_of_config(read_config(folder))
    with torch.device("meta"):
        model = Llama(shape)
    weights = _read_weights(folder)
    if shape.tied_embeddings:
        _tie(weights, folder)
    _check_names(model, weights, folder)
    # assign=True keeps what was read instead of copying it; a tie has to be made again after it.
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in weights.items()}, assign=True)
    if shape.tied_embeddings:
        model.lm_head.weight = model.embed_tokens.weight
    return model


def read_config(folder: Path) -> dict[str, Any]:
    """A folder's `config.json`.

    Raises:
        ModelError: it is not there or not a JSON object.
    """
    return _read_json(folder / CONFIG, "give a Hugging Face folder of a Llama model")


def _read_json(path: Path, remedy: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read: {error}; {remedy}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path}: holds a {type(value).__name__}, not an object; {remedy}")
    return value


def _refuse_other_architectures(config: dict[str, Any]) -> None:
    kind = config.get("model_type")
    architectures = config.get("architectures") or ["LlamaForCausalLM"]
    if kind != "llama" or architectures != ["LlamaForCausalLM"]:
        raise ModelError(
            f"{CONFIG}: model_type {kind!r} with architectures {architectures} is not supported; "
            "only 'llama' with LlamaForCausalLM is"
        )
    for key, supported in (("attention_bias", False), ("mlp_bias", False), ("hidden_act", "silu")):
        if config.get(key, supported) != supported:
            raise ModelError(f"{CONFIG}: {key} is {config[key]!r}; only {supported!r} is supported")
    if config.get("quantization_config"):
        raise ModelError(f"{CONFIG}: the weights are quantized; give the folder in full precision")


def _rope_theta(config: dict[str, Any]) -> float:
    """RoPE's base from `rope_parameters` (transformers 5) or `rope_theta` (before); refuses scaling."""
    theta = config.get("rope_theta", 10000.0)
    for key in ("rope_scaling", "rope_parameters"):
        rope = config.get(key) or {}
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default" or rope.get("partial_rotary_factor", 1.0) != 1.0:
            raise ModelError(f"{CONFIG}: RoPE scaling is not supported, but {key} asks for {rope}")
        theta = rope.get("rope_theta", theta)
    if not isinstance(theta, int | float):
        raise ModelError(f"{CONFIG}: rope_theta is {theta!r}, not a number")
    return float(theta)


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder under our names."""
    weights: dict[str, Tensor] = {}
    for path in _weight_files(folder):
        try:
            stored = load_file(path)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path}: cannot be read as safetensors: {error}; get the file anew") from error
        weights |= {name.removeprefix(_PREFIX): tensor for name, tensor in stored.items()}
    return {name: tensor for name, tensor in weights.items() if not name.endswith(_DERIVED)}


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        index = _read_json(folder / INDEX, "get the file anew")
        names = sorted(set(index.get("weight_map", {}).values()))
        for name in names:
            if not (folder / name).is_file():
                raise ModelError(f"{folder / name}: this part of the weights is missing; {INDEX} names it")
        return [folder / name for name in names]
    raise ModelError(f"{folder}: holds neither {WEIGHTS} nor {INDEX}; only safetensors weights are read")


def _tie(weights: dict[str, Tensor], folder: Path) -> None:
    """Let the head be the embedding; a stored head must say the same."""
    if _EMBEDDING not in weights:
        return
    head = weights.setdefault(HEAD, weights[_EMBEDDING])
    if not torch.equal(head, weights[_EMBEDDING]):
        raise ModelError(
            f"{folder}: tie_word_embeddings is true, but {HEAD} differs from {hub_name(_EMBEDDING)}; "
            "set tie_word_embeddings to false if the head is meant to be its own"
        )


def _check_names(model: Llama, weights: dict[str, Tensor], folder: Path) -> None:
    """Refuse tensors that are missing, unexpected or of another shape than the config says."""
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    missing, unexpected = expected.keys() - weights.keys(), weights.keys() - expected.keys()
    for problem, names in (("are missing", missing), ("are unexpected", unexpected)):
        if names:
            listed = ", ".join(hub_name(name) for name in sorted(names)[:3])
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise ModelError(f"{folder}: tensors {problem}: {listed}{more}; {CONFIG} asks for others")
    for name, shape in expected.items():
        if tuple(weights[name].shape) != shape:
            raise ModelError(
                f"{folder}: {hub_name(name)} has shape {tuple(weights[name].shape)}, but {CONFIG} asks for {shape}"
            )
