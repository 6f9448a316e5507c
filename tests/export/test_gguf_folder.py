from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.export.disks import largest_file
from tests.export.hub_models import save_hub_model
from tinyllama.errors import ExportError
from tinyllama.export import ModelInfo, export_gguf
from tinyllama.export import gguf_folder as module
from tinyllama.formats.gguf.file import GgufFile
from tinyllama.formats.gguf.tokenizer import write_gguf_tokenizer
from tinyllama.formats.gguf.writer import FILE_TYPES
from tinyllama.formats.open import open_model
from tinyllama.model import Llama
from tinyllama.tokenizer.opening import open_tokenizer
from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from tinyllama.export import ParityResult

pytest.importorskip("gguf", reason="the extra gguf")
ABOUT = ModelInfo("nano-math_code", "apache-2.0")


def exported(model: Llama, folder: Path, tokenizer_model: Path, kind: str = "F32") -> ParityResult:
    return export_gguf(
        model.state_dict(),
        shape=model.shape,
        tokenizer=SentencePieceTokenizer(tokenizer_model),
        folder=folder,
        kind=kind,
        about=ABOUT,
    )


@pytest.mark.parametrize("tied", [False, True])
def test_ours_to_f32_to_ours_is_bit_identical(
    tmp_path: Path, model: Llama, tokenizer_model: Path, *, tied: bool
) -> None:
    if tied:
        model = Llama(model.shape.model_copy(update={"tied_embeddings": True}))
        model.initialize(0)
    exported(model, tmp_path / "a", tokenizer_model)
    loaded = open_model(tmp_path / "a" / "nano-math_code-F32.gguf").load()
    assert loaded.shape == model.shape
    assert all(torch.equal(loaded.get_parameter(name), weight) for name, weight in model.named_parameters())


@pytest.mark.parametrize("limit", [100, 200_000])
def test_a_full_disk_leaves_no_half_folder(tmp_path: Path, model: Llama, tokenizer_model: Path, limit: int) -> None:
    with largest_file(limit), pytest.raises(ExportError, match=r"a: the export cannot be written"):
        exported(model, tmp_path / "a", tokenizer_model)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", FILE_TYPES)
def test_every_kind_passes_its_gate_and_says_so(tmp_path: Path, model: Llama, tokenizer_model: Path, kind: str) -> None:
    result = exported(model, tmp_path / "a", tokenizer_model, kind)
    assert result.largest_difference <= 1e-5
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {f"nano-math_code-{kind}.gguf", "Modelfile", "README.md", ".tinyllama.json"}
    assert f"{result.largest_difference:.2g}" in (tmp_path / "a" / "README.md").read_text()
    lines = (tmp_path / "a" / "Modelfile").read_text().splitlines()
    assert lines[:2] == [f"FROM ./nano-math_code-{kind}.gguf", "PARAMETER num_ctx 64"]


def test_a_streamed_gate_passes_too(
    tmp_path: Path, model: Llama, tokenizer_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinyllama.export.parity.WHOLE", 0)
    exported(model, tmp_path / "a", tokenizer_model, "Q8_0")


def test_the_tokenizer_comes_back_with_the_same_ids(tmp_path: Path, model: Llama, tokenizer_model: Path) -> None:
    exported(model, tmp_path / "a", tokenizer_model)
    write_gguf_tokenizer(GgufFile(tmp_path / "a" / "nano-math_code-F32.gguf"), tmp_path / "b")
    ours, theirs = SentencePieceTokenizer(tokenizer_model), open_tokenizer(tmp_path / "b")
    texts = ["the cat", " the  cat", "人工智能", "🦙", "</s>", "▁x", "a\0b", "e\u0301", "\n\t", "", "x" * 1000]
    assert ours.encode(texts) == theirs.encode(texts)
    assert (ours.bos_id, ours.eos_id, ours.vocab_size) == (theirs.bos_id, theirs.eos_id, theirs.vocab_size)


def test_a_chat_template_goes_in_and_comes_out(tmp_path: Path, model: Llama, tokenizer_model: Path) -> None:
    template = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}"
    (tmp_path / "tokenizer.model").write_bytes(tokenizer_model.read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    exported(model, tmp_path / "a", tmp_path / "tokenizer.model")
    write_gguf_tokenizer(GgufFile(tmp_path / "a" / "nano-math_code-F32.gguf"), tmp_path / "b")
    assert open_tokenizer(tmp_path / "b").chat_template == template
    assert "TEMPLATE" not in (tmp_path / "a" / "Modelfile").read_text()  # Ollama takes the file's


def test_a_gate_that_fails_leaves_nothing(
    tmp_path: Path, model: Llama, tokenizer_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swapped(weights: dict[str, Tensor], *rest: Any) -> None:  # noqa: ANN401  # as write_gguf
        one, other = "layers.0.self_attn.q_proj.weight", "layers.1.self_attn.q_proj.weight"
        write(weights | {one: weights[other], other: weights[one]}, *rest)

    write = module.write_gguf
    monkeypatch.setattr(module, "write_gguf", swapped)
    with pytest.raises(ExportError, match=r"layers.0.self_attn.q_proj.weight does not read back"):
        exported(model, tmp_path / "a", tokenizer_model)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_finite_is_not_exported(tmp_path: Path, model: Llama, tokenizer_model: Path) -> None:
    with torch.no_grad():
        model.norm.weight[0] = torch.inf
    with pytest.raises(ExportError, match="not written"):
        exported(model, tmp_path / "a", tokenizer_model)
    assert list(tmp_path.iterdir()) == []


def test_another_folder_is_never_replaced(tmp_path: Path, model: Llama, tokenizer_model: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ExportError, match="not an earlier export"):
        exported(model, tmp_path, tokenizer_model)


def test_tokens_added_beside_a_tokenizer_model_keep_their_names_and_kinds(
    tmp_path: Path, tokenizer_model: Path
) -> None:
    pieces = SentencePieceTokenizer(tokenizer_model).vocab_size
    folder = tmp_path / "chat"
    save_hub_model("Llama 3.2 1B", folder, pieces + 4)
    shutil.copy(tokenizer_model, folder / "tokenizer.model")
    added = {"<|im_start|>": pieces, "<|im_end|>": pieces + 1, "<note>": pieces + 2}
    (folder / "added_tokens.json").write_text(json.dumps(added))
    (folder / "special_tokens_map.json").write_text('{"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}')
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, pieces + 1]}))
    module.convert_to_gguf(open_model(folder), tmp_path / "gguf", "F32")
    file = GgufFile(tmp_path / "gguf" / "chat-F32.gguf")
    tokens = file.require("tokenizer.ggml.tokens", list[str])
    kinds = file.require("tokenizer.ggml.token_type", list[int])
    assert tokens[pieces:] == [*added, f"[PAD{pieces + 3}]"]
    assert kinds[pieces:] == [3, 3, 4, 5]
    assert file.require("tokenizer.ggml.eot_token_id", int) == pieces + 1
    assert open_model(file.path).tokenizer().end_ids == {2, pieces + 1}
