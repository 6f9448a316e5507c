"""Llama-shaped models of the hub with random weights: their own configurations, made small."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

if TYPE_CHECKING:
    from pathlib import Path

_LLAMA3_2 = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
    "rope_theta": 500000.0,
}
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "rope_theta": 10000.0}
CONFIGS: dict[str, dict[str, Any]] = {
    "Llama 3.2 1B": {
        "hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 64,
        "tie_word_embeddings": True, "rms_norm_eps": 1e-5, "rope_parameters": _LLAMA3_2,
    },
    "Llama 3.2 3B": {
        "hidden_size": 384, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 128,
        "tie_word_embeddings": True, "rms_norm_eps": 1e-5, "rope_parameters": _LLAMA3_2,
    },
    "Mistral Nemo": {
        "model_type": "mistral", "sliding_window": None,
        "hidden_size": 160, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 64,
        "rms_norm_eps": 1e-5, "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
    },
    "SmolLM2": {
        "hidden_size": 144, "num_attention_heads": 9, "num_key_value_heads": 3,
        "tie_word_embeddings": True, "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
    },
    "linear": {
        "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0},
    },
    "yarn": {
        "hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
        "rope_parameters": _YARN,
    },
    "yarn with a factor of attention": {
        "hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
        "rope_parameters": {**_YARN, "attention_factor": 1.25},
    },
    "yarn with other betas": {
        "hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
        "rope_parameters": {**_YARN, "beta_fast": 16.0, "beta_slow": 2.0},
    },
    "dynamic": {
        "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 128,
        "rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0},
    },
}  # fmt: skip


def save_hub_model(name: str, folder: Path, vocab_size: int = 256) -> Any:  # noqa: ANN401  # a model of transformers
    """Write a model as transformers does; its weights differ enough that no two logits are a rounding apart."""
    sizes = {"vocab_size": vocab_size, "intermediate_size": 256, "num_hidden_layers": 2, "max_position_embeddings": 512}
    settings = sizes | CONFIGS[name]
    mistral = settings.pop("model_type", "llama") == "mistral"
    torch.manual_seed(0)
    config = (MistralConfig if mistral else LlamaConfig)(**settings)
    model = (MistralForCausalLM if mistral else LlamaForCausalLM)(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.03)
    model.save_pretrained(folder)
    return model
