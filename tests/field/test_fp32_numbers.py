"""Numbers that pass through fp32: files spell the same number as 1e-05 and as 9.999999747378752e-06."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.field.conftest import RECIPE, Run

pytestmark = pytest.mark.field

SHAPE = {
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_hidden_layers": 1,
    "max_position_embeddings": 32,
    "vocab_size": 300,
}
"""The shape of the small family's model."""


@pytest.fixture
def model(field: Path, tinyllama: Run) -> Path:
    """A Hugging Face folder, `hf`, with the small family's tokenizer, and a recipe that continues it."""
    tinyllama("tokenizer", "train", "field.yaml", "--out", "hf").succeeded()
    block = {"self_attn.q_proj": (8, 8), "self_attn.k_proj": (4, 8), "self_attn.v_proj": (4, 8)}
    block |= {"self_attn.o_proj": (8, 8), "mlp.gate_proj": (16, 8), "mlp.up_proj": (16, 8), "mlp.down_proj": (8, 16)}
    block |= {"input_layernorm": (8,), "post_attention_layernorm": (8,)}
    sizes = {f"model.layers.0.{name}.weight": size for name, size in block.items()}
    sizes |= {"model.embed_tokens.weight": (300, 8), "model.norm.weight": (8,), "lm_head.weight": (300, 8)}
    numbers = np.random.default_rng(0)
    weights = {name: numbers.normal(0, 0.1, size).astype(np.float32) for name, size in sizes.items()}
    save_file(weights, field / "hf/model.safetensors", metadata={"format": "pt"})
    start = "start: {model: hf, tokens: 64}\ntokenizer: {imported: true}\n"
    recipe = RECIPE.replace("tokenizer:\n  train: {vocab_size: 300}\n", start)
    (field / "start.yaml").write_text(recipe, encoding="utf-8")
    return field / "hf"


def _configure(model: Path, **keys: float) -> None:
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "rms_norm_eps": 1e-5, **SHAPE, **keys}
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")


def test_numbers_in_the_spelling_of_fp32_are_exported_to_gguf(model: Path, tinyllama: Run) -> None:
    _configure(model, rms_norm_eps=9.999999747378752e-06)
    target = tinyllama("export", "hf", "--format", "gguf").succeeded().strip()
    assert list((model.parent / target).glob("*.gguf"))


def test_a_rope_base_that_fp32_rounds_is_exported_to_gguf(model: Path, tinyllama: Run) -> None:
    _configure(model, rope_theta=10000.0001)
    tinyllama("export", "hf", "--format", "gguf", "--precision", "F32").succeeded()


def test_a_model_starts_a_recipe_that_spells_the_same_number_shorter(model: Path, tinyllama: Run) -> None:
    _configure(model, rms_norm_eps=9.999999747378752e-06)
    tinyllama("import", "--recipe", "start.yaml").succeeded()


def test_another_number_is_still_refused(model: Path, tinyllama: Run) -> None:
    _configure(model, rms_norm_eps=1.1e-05)
    assert "norm_eps: 1.1e-05" in tinyllama("import", "--recipe", "start.yaml").refused()
