from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tinyllama.files import write_json
from tinyllama.formats.huggingface.config import config_of_shape
from tinyllama.formats.huggingface.state_dict import write_weights
from tinyllama.formats.open import open_model
from tinyllama.model import Llama

if TYPE_CHECKING:
    from pathlib import Path


def test_small_weights_are_one_file_in_the_form_transformers_writes(tmp_path: Path, model: Llama) -> None:
    write_weights(model.state_dict(), model.shape, tmp_path, torch.float32)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
        names = set(file.keys())
    assert {"lm_head.weight", "model.norm.weight", "model.layers.1.self_attn.q_proj.weight"} <= names
    assert len(names) == len(model.state_dict())


@pytest.mark.parametrize("tied", [False, True])
def test_large_weights_are_parts_under_an_index_that_loads_again(tmp_path: Path, model: Llama, *, tied: bool) -> None:
    if tied:
        model = Llama(model.shape.model_copy(update={"tied_embeddings": True}))
        model.initialize(0)
    write_weights(model.state_dict(), model.shape, tmp_path, torch.float32, shard_bytes=50_000)
    write_json(tmp_path / "config.json", config_of_shape(model.shape, dtype=torch.float32, bos_id=1, eos_id=2))

    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    parts = sorted(tmp_path.glob("*.safetensors"))
    count = len(parts)
    assert count > 1
    assert [path.name for path in parts] == [
        f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)
    ]
    assert {name: path.name for path in parts for name in load_file(path)} == index["weight_map"]
    assert index["metadata"]["total_size"] == 4 * model.shape.parameters
    loaded = open_model(tmp_path).load()
    assert all(torch.equal(weight, loaded.state_dict()[name]) for name, weight in model.state_dict().items())


def test_no_part_exceeds_the_bound_unless_one_tensor_does(tmp_path: Path, model: Llama) -> None:
    write_weights(model.state_dict(), model.shape, tmp_path, torch.float32, shard_bytes=50_000)
    for path in tmp_path.glob("*.safetensors"):
        tensors = load_file(path)
        assert len(tensors) == 1 or sum(tensor.nbytes for tensor in tensors.values()) <= 50_000


def test_weights_are_as_readable_as_any_new_file(tmp_path: Path, model: Llama) -> None:
    write_weights(model.state_dict(), model.shape, tmp_path, torch.float32)
    (tmp_path / "new").touch()
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "new").stat().st_mode


def test_a_tied_head_is_stored_once(tmp_path: Path, model: Llama) -> None:
    tied = Llama(model.shape.model_copy(update={"tied_embeddings": True}))
    tied.initialize(0)
    write_weights(tied.state_dict(), tied.shape, tmp_path, torch.float32)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")


def test_weights_are_stored_in_the_asked_precision(tmp_path: Path, model: Llama) -> None:
    write_weights(model.state_dict(), model.shape, tmp_path, torch.bfloat16)
    stored = load_file(tmp_path / "model.safetensors")
    assert torch.equal(stored["lm_head.weight"], model.lm_head.weight.bfloat16())
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
