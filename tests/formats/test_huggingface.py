from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

from tinyllama.errors import ModelError
from tinyllama.formats.huggingface.config import config_of_shape, shape_of_config
from tinyllama.formats.model_source import HuggingFaceModel
from tinyllama.formats.open import open_model
from tinyllama.recipe import ModelShape

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = ModelShape(layers=2, width=32, ffn=88, heads=4, kv_heads=2, context=64, vocab_size=128)


def save_transformers_model(folder: Path, *, shard_size: str = "5GB", **changes: object) -> LlamaForCausalLM:
    """A folder as transformers itself writes it."""
    settings = {
        "vocab_size": 128,
        "hidden_size": 32,
        "intermediate_size": 88,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    }
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**{**settings, **changes})).eval()
    model.save_pretrained(folder, max_shard_size=shard_size)
    return model


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_key_value_heads": 4},
        {"num_key_value_heads": 1},
        {"tie_word_embeddings": True},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 250000.0}, "rms_norm_eps": 1e-3},
    ],
    ids=["grouped-query", "multi-head", "multi-query", "tied", "theta-and-eps"],
)
@torch.no_grad()
def test_a_folder_of_transformers_gives_its_logits(tmp_path: Path, changes: dict[str, Any]) -> None:
    theirs = save_transformers_model(tmp_path, **changes)
    tokens = torch.randint(128, (2, 64), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(open_model(tmp_path).load()(tokens), theirs(tokens).logits, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_sharded_folder_gives_the_same_weights(tmp_path: Path) -> None:
    theirs = save_transformers_model(tmp_path, shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    ours = open_model(tmp_path).load()
    assert torch.equal(ours.lm_head.weight, theirs.lm_head.weight)
    assert torch.equal(ours.layers[1].mlp.up_proj.weight, theirs.model.layers[1].mlp.up_proj.weight)


def test_a_tied_folder_stays_tied(tmp_path: Path) -> None:
    save_transformers_model(tmp_path, tie_word_embeddings=True)
    model = open_model(tmp_path).load()
    assert model.lm_head.weight is model.embed_tokens.weight
    assert sum(weight.numel() for weight in model.parameters()) == model.shape.parameters


def test_a_tied_folder_with_another_head_is_refused(tmp_path: Path) -> None:
    save_transformers_model(tmp_path)
    edit_config(tmp_path, tie_word_embeddings=True)
    with pytest.raises(ModelError, match=r"lm_head.weight differs"):
        open_model(tmp_path).load()


def test_weights_come_in_the_asked_precision(tmp_path: Path) -> None:
    save_transformers_model(tmp_path)
    assert {weight.dtype for weight in open_model(tmp_path).load(torch.bfloat16).parameters()} == {torch.bfloat16}


def test_rope_theta_is_read_as_old_and_new_releases_write_it() -> None:
    config = config_of_shape(SHAPE, dtype=torch.float32, bos_id=1, eos_id=2)
    new = {key: value for key, value in config.items() if key != "rope_theta"}
    new["rope_parameters"] = {"rope_type": "default", "rope_theta": 1234.0}
    old = {key: value for key, value in config.items() if key != "rope_parameters"} | {"rope_theta": 1234.0}
    assert shape_of_config(new).rope_theta == shape_of_config(old).rope_theta == 1234.0


def test_what_an_old_config_leaves_out_has_its_default() -> None:
    config = {
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 88,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "vocab_size": 128,
    }
    defaults = LlamaConfig()
    shape = shape_of_config(config)
    assert shape.kv_heads == shape.heads == 4
    assert shape.norm_eps == defaults.rms_norm_eps
    assert shape.context == defaults.max_position_embeddings
    assert shape.rope_theta == defaults.rope_parameters["rope_theta"]
    assert not shape.tied_embeddings


@pytest.mark.parametrize("changes", [{}, {"tied_embeddings": True, "kv_heads": 1, "rope_theta": 5e5, "norm_eps": 1e-6}])
def test_config_and_shape_are_inverse(changes: dict[str, Any]) -> None:
    shape = SHAPE.model_copy(update=changes)
    assert shape_of_config(config_of_shape(shape, dtype=torch.bfloat16, bos_id=1, eos_id=2)) == shape


def test_transformers_reads_our_config_as_meant(tmp_path: Path) -> None:
    config = config_of_shape(SHAPE, dtype=torch.bfloat16, bos_id=3, eos_id=4)
    (tmp_path / "config.json").write_text(json.dumps(config))
    read = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(read, LlamaConfig)
    assert read.dtype == torch.bfloat16
    assert (read.bos_token_id, read.eos_token_id, read.head_dim) == (3, 4, 8)
    assert read.rope_parameters == {"rope_type": "default", "rope_theta": 10000.0}
    assert (config["rope_theta"], config["torch_dtype"]) == (10000.0, "bfloat16")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, r"model_type 'gpt2'"),
        ({"model_type": "smollm3"}, r"some of its layers have no RoPE"),
        ({"model_type": "olmo"}, r"its norms have no weights"),
        ({"model_type": "qwen2"}, r"have biases"),
        ({"model_type": "mixtral"}, r"a mixture of experts"),
        ({"model_type": "mistral", "architectures": ["MistralForCausalLM"]}, r"sliding window of 4096"),
        ({"architectures": ["LlamaForSequenceClassification"]}, r"LlamaForSequenceClassification"),
        ({"attention_bias": True}, r"attention_bias is True"),
        ({"mlp_bias": True}, r"mlp_bias is True"),
        ({"hidden_act": "gelu"}, r"hidden_act is 'gelu'"),
        ({"head_dim": 15}, r"head_dim is 15, but must be even"),
        ({"rope_scaling": {"type": "linear"}}, r"factor: is missing"),
        ({"rope_scaling": {"type": "linear", "factor": "x"}}, r"factor"),
        ({"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0]}}, r"of this kind .*longrope"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0, "truncate": False}}, r"of this kind"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, r"of this kind"),
        ({"rope_theta": "big", "rope_parameters": None}, r"rope_theta is 'big'"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, r"quantized \(gptq\).*full precision"),
        ({"num_key_value_heads": 3}, r"multiple of kv_heads"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    config = config_of_shape(SHAPE, dtype=torch.float32, bos_id=1, eos_id=2)
    with pytest.raises(ModelError, match=message):
        shape_of_config(config | changes)


def test_a_config_without_a_size_is_refused() -> None:
    config = config_of_shape(SHAPE, dtype=torch.float32, bos_id=1, eos_id=2)
    del config["hidden_size"]
    with pytest.raises(ModelError, match=r"'hidden_size' is missing"):
        shape_of_config(config)


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_a_folder_without_a_readable_config_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json.*Hugging Face folder"):
        HuggingFaceModel(tmp_path, "a hub id")


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    save_transformers_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        open_model(tmp_path).load()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_legacy_file_gives_the_same_weights(tmp_path: Path, *, zipped: bool) -> None:
    theirs = save_transformers_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    ours = open_model(tmp_path).load().state_dict()
    assert all(torch.equal(ours[name.removeprefix("model.")], tensor) for name, tensor in theirs.state_dict().items())


class Harmful:
    """A pickle that writes a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (open, (str(self.path), "w"))


def test_nothing_but_tensors_in_a_legacy_file_is_ever_executed(tmp_path: Path) -> None:
    theirs = save_transformers_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(theirs.state_dict() | {"x": Harmful(tmp_path / "written")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="tensors alone") as caught:
        open_model(tmp_path).load()
    assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "written").exists()


def test_a_missing_part_of_the_weights_is_named(tmp_path: Path) -> None:
    save_transformers_model(tmp_path, shard_size="20KB")
    part = sorted(tmp_path.glob("model-*.safetensors"))[1]
    part.unlink()
    with pytest.raises(ModelError, match=part.name):
        open_model(tmp_path).load()


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    save_transformers_model(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model\.safetensors: cannot be read as safetensors"):
        open_model(tmp_path).load()


def test_missing_unexpected_and_misshapen_tensors_are_named(tmp_path: Path) -> None:
    save_transformers_model(tmp_path)
    path = tmp_path / "model.safetensors"
    whole = load_file(path)
    norm = "model.layers.1.input_layernorm.weight"

    save_file({name: tensor for name, tensor in whole.items() if name != norm}, path)
    with pytest.raises(ModelError, match=rf"missing: {norm}"):
        open_model(tmp_path).load()
    save_file(whole | {"model.layers.1.self_attn.q_proj.bias": torch.zeros(32)}, path)
    with pytest.raises(ModelError, match=r"unexpected: model\.layers\.1\.self_attn\.q_proj\.bias"):
        open_model(tmp_path).load()
    save_file(whole | {norm: torch.ones(31)}, path)
    with pytest.raises(ModelError, match=rf"{norm} has shape \(31,\)"):
        open_model(tmp_path).load()


def test_rotary_buffers_of_old_releases_are_passed_over(tmp_path: Path) -> None:
    save_transformers_model(tmp_path)
    path = tmp_path / "model.safetensors"
    save_file(load_file(path) | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}, path)
    assert open_model(tmp_path).load().shape.layers == 2
