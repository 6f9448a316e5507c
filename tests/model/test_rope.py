from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from tinyllama.formats.huggingface.rope import rope_parameters
from tinyllama.model.rope import rope_tables
from tinyllama.recipe import ModelShape, RopeScaling

SIZES = {"layers": 1, "width": 128, "ffn": 64, "heads": 4, "kv_heads": 2, "vocab_size": 64}
SCALED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Llama 3.1": (
        {"rope_theta": 5e5, "context": 131072, "head_dim": 128},
        {"kind": "llama3", "factor": 8, "original_context": 8192},
    ),
    "Llama 3.2": (
        {"rope_theta": 5e5, "context": 131072, "head_dim": 64},
        {"kind": "llama3", "factor": 32, "original_context": 8192},
    ),
    "llama3 with other waves": (
        {"context": 65536},
        {"kind": "llama3", "factor": 4, "original_context": 4096, "low_freq_factor": 2, "high_freq_factor": 8},
    ),
    "linear": ({"context": 8192}, {"kind": "linear", "factor": 4}),
    "dynamic": ({"context": 2048}, {"kind": "dynamic", "factor": 2}),
    "yarn": ({"context": 131072, "head_dim": 128}, {"kind": "yarn", "factor": 16, "original_context": 8192}),
    "yarn of the whole context": ({"context": 4096}, {"kind": "yarn", "factor": 1}),
    "yarn with its own numbers": (
        {"context": 131072, "rope_theta": 1e6},
        {
            "kind": "yarn",
            "factor": 32,
            "original_context": 4096,
            "beta_fast": 16,
            "beta_slow": 2,
            "attention_factor": 1.3,
        },
    ),
}


def scaled_shape(kind: str) -> ModelShape:
    sizes, scaling = SCALED[kind]
    return ModelShape(**(SIZES | sizes), rope_scaling=RopeScaling(**scaling))


@pytest.mark.parametrize("kind", SCALED)
@pytest.mark.parametrize("last", [100, 131_072])
def test_tables_equal_those_of_transformers_at_every_position(kind: str, last: int) -> None:
    shape = scaled_shape(kind)
    theirs = LlamaRotaryEmbedding(
        LlamaConfig(
            hidden_size=shape.width,
            num_attention_heads=shape.heads,
            head_dim=shape.head_size,
            max_position_embeddings=shape.context,
            rope_parameters=rope_parameters(shape),
        )
    )
    positions = torch.arange(last + 1)
    for ours, expected in zip(rope_tables(positions, shape), theirs(torch.zeros(1), positions[None]), strict=True):
        torch.testing.assert_close(ours, expected[0], rtol=0, atol=5e-7)
