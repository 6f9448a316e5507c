"""Shapes of today's Llamas: from transformers to us, back to transformers, and through GGUF."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.export.hub_models import CONFIGS, save_hub_model
from tinyllama.errors import ExportError
from tinyllama.export import ModelInfo, export_gguf
from tinyllama.files import write_json
from tinyllama.formats.huggingface.config import config_of_shape
from tinyllama.formats.huggingface.state_dict import write_weights
from tinyllama.formats.open import open_model
from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.formats.model_source import OpenModel

NOT_IN_GGUF = {
    "dynamic": r"RoPE scaling of kind dynamic; export the model as a Hugging Face folder",
    "yarn with other betas": r"beta_fast 16 and beta_slow 2, but llama.cpp reads no others",
}
IN_GGUF = [name for name in CONFIGS if name not in NOT_IN_GGUF]


def some_tokens(rows: int = 2, length: int = 200) -> torch.Tensor:
    return torch.randint(256, (rows, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_logits_are_those_of_transformers_in_and_out(tmp_path: Path, name: str) -> None:
    theirs = save_hub_model(name, tmp_path / "hub")
    tokens = some_tokens()
    source = open_model(tmp_path / "hub")
    ours = source.load()(tokens)
    torch.testing.assert_close(ours, theirs(tokens).logits, rtol=0, atol=1e-5)
    (tmp_path / "out").mkdir()
    config = config_of_shape(source.shape, dtype=torch.float32, bos_id=1, eos_id=2)
    write_json(tmp_path / "out" / "config.json", config)
    write_weights(source.weights, source.shape, tmp_path / "out", torch.float32)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(again(tokens).logits, ours, rtol=0, atol=1e-5)
    assert all(torch.equal(again.get_parameter(key), weight) for key, weight in theirs.named_parameters())
    assert open_model(tmp_path / "out").shape == source.shape


@pytest.mark.parametrize("name", [name for name, config in CONFIGS.items() if "factor" in config["rope_parameters"]])
@torch.no_grad()
def test_without_its_scaling_a_model_computes_something_else(tmp_path: Path, name: str) -> None:
    save_hub_model(name, tmp_path)
    model = open_model(tmp_path).load()
    scaled = model(some_tokens())
    model.shape = model.shape.model_copy(update={"rope_scaling": None})
    assert (model(some_tokens()) - scaled).abs().max() > 1e-3


def export_f32(source: OpenModel, folder: Path, tokenizer_model: Path) -> Path:
    export_gguf(
        source.checked_weights(),
        shape=source.shape,
        tokenizer=SentencePieceTokenizer(tokenizer_model),
        folder=folder,
        kind="F32",
        about=ModelInfo("model", "mit"),
    )
    return folder / "model-F32.gguf"


@pytest.mark.parametrize("name", IN_GGUF)
def test_gguf_gives_back_the_shape_and_every_bit(tmp_path: Path, name: str, tokenizer_model: Path) -> None:
    pytest.importorskip("gguf", reason="the extra gguf")
    vocab_size = SentencePieceTokenizer(tokenizer_model).vocab_size
    save_hub_model(name, tmp_path / "hub", vocab_size)
    source = open_model(tmp_path / "hub")
    back = open_model(export_f32(source, tmp_path / "gguf", tokenizer_model))
    assert back.shape.in_fp32 == source.shape.in_fp32
    assert back.weights.keys() == source.weights.keys()
    assert all(torch.equal(back.weights[key], source.weights[key]) for key in source.weights)


@pytest.mark.parametrize("name", NOT_IN_GGUF)
def test_gguf_refuses_what_it_cannot_say(tmp_path: Path, tokenizer_model: Path, name: str) -> None:
    pytest.importorskip("gguf", reason="the extra gguf")
    save_hub_model(name, tmp_path / "hub", SentencePieceTokenizer(tokenizer_model).vocab_size)
    with pytest.raises(ExportError, match=NOT_IN_GGUF[name]):
        export_f32(open_model(tmp_path / "hub"), tmp_path / "gguf", tokenizer_model)
    assert not (tmp_path / "gguf").exists()
