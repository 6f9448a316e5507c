"""Quantized GGUF exports as far as they need no llama.cpp; `make test-llamacpp` has the rest."""

from __future__ import annotations

import json
import math
import shutil
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from tests.export.conftest import TEXT
from tinyllama.errors import ExportError
from tinyllama.export import HeldOutText, ModelInfo, QuantizationRecord, divergence, export_gguf, quantized
from tinyllama.export.divergence import compare_logits, measure, split_text, windows_of
from tinyllama.export.importance import importance_matrix
from tinyllama.export.quantized import QUANTIZATION
from tinyllama.formats.gguf import quantizer
from tinyllama.formats.gguf.file import GgufFile
from tinyllama.formats.gguf.quantizer import TypeShare, type_shares
from tinyllama.formats.gguf.writer import write_gguf
from tinyllama.formats.open import open_model
from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from tinyllama.model import Llama

pytest.importorskip("gguf", reason="the extra gguf")
LONG = TEXT * 20
DOCUMENTS = [(LONG, len(LONG))]


def record(**changes: object) -> QuantizationRecord:
    fields = {
        "type": "Q4_K_M", "kl_divergence": 0.05, "limit": 0.1, "bits_per_byte": 1.01, "bits_per_byte_f32": 1.0,
        "tokens": 4096, "texts": ["prose"], "importance_tokens": 0, "llama_cpp_python": "0.3.36",
        "tensor_types": {"Q4_K": TypeShare(tensors=3, weights=75), "Q6_K": TypeShare(tensors=1, weights=25)},
    }  # fmt: skip
    return QuantizationRecord.model_validate(fields | changes)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """llama.cpp's part: a file whose matrices are scaled by `factor`, run by our own model."""
    settings = {"factor": 1.0}

    class Module:
        __version__ = "0.0"

    def copy(source: Path, target: Path, _kind: str, _importance: dict[str, NDArray[np.float32]]) -> None:
        shutil.copy(source, target)

    def logits(path: Path, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        model = open_model(path).load()
        for row in rows:
            with torch.no_grad():
                yield model(row[None])[0] * settings["factor"]

    for module in (quantized, divergence):
        monkeypatch.setattr(module, "load_llama_cpp", lambda: Module)
    monkeypatch.setattr(quantized, "quantize_file", copy)
    monkeypatch.setattr(divergence, "llama_cpp_logits", logits)
    return settings


def exported(
    model: Llama, tokenizer_model: Path, folder: Path, documents: Sequence[tuple[str, int]] = DOCUMENTS
) -> QuantizationRecord:
    result = export_gguf(
        model.state_dict(),
        shape=model.shape,
        tokenizer=SentencePieceTokenizer(tokenizer_model),
        folder=folder,
        kind="Q4_K_M",
        about=ModelInfo("tiny", "mit"),
        text=HeldOutText({"held out": documents}, bos=False),
    )
    assert isinstance(result, QuantizationRecord)
    return result


def test_the_divergence_is_that_of_the_two_distributions() -> None:
    p, q = torch.tensor([[0.5, 0.25, 0.25], [1 / 3] * 3]), torch.tensor([[0.25, 0.5, 0.25], [1 / 3] * 3])
    found = compare_logits(p.log() + 3, q.log() - 1, torch.tensor([0, 2]))
    assert found.kl == pytest.approx(0.5 * math.log(2) - 0.25 * math.log(2))
    assert found.loss == pytest.approx(math.log(4) + math.log(3))
    assert found.reference_loss == pytest.approx(math.log(2) + math.log(3))


def test_windows_hold_every_token_once_and_padding_counts_nothing(model: Llama, tokenizer_model: Path) -> None:
    tokenizer = SentencePieceTokenizer(tokenizer_model)
    windows = windows_of(DOCUMENTS, tokenizer, bos=True, context=model.shape.context)
    ids = [tokenizer.bos_id, *tokenizer.encode([LONG])[0], tokenizer.eos_id]
    assert windows.targets[windows.targets >= 0].tolist() == ids[1:]
    assert windows.tokens.flatten()[: windows.count].tolist() == ids[:-1]
    assert windows.tokens.shape[1] == model.shape.context
    assert windows.bytes == len(LONG)


@pytest.mark.usefixtures("stand_in")
def test_a_padded_row_changes_nothing(model: Llama, tokenizer_model: Path, tmp_path: Path) -> None:
    tokenizer = SentencePieceTokenizer(tokenizer_model)
    exported(model, tokenizer_model, tmp_path / "a")
    windows = windows_of(DOCUMENTS, tokenizer, bos=False, context=model.shape.context)
    found = measure(model.eval(), tmp_path / "a/tiny-Q4_K_M.gguf", windows)
    with torch.no_grad():
        losses = torch.nn.functional.cross_entropy(
            model(windows.tokens).flatten(0, 1), windows.targets.flatten(), ignore_index=-100, reduction="sum"
        )
    assert found.reference_loss == pytest.approx(float(losses), rel=1e-5)
    assert found.loss == pytest.approx(found.reference_loss, rel=1e-5)
    assert found.kl == pytest.approx(0, abs=1e-3)


def test_every_text_gives_an_equal_part_and_the_pieces_do_not_overlap() -> None:
    texts = {"a": [("x" * 6, 6), ("é" * 10, 20)], "b": [("z" * 3, 3)]}
    first, second = split_text(texts, 16, 8)
    assert first == [("x" * 6, 6), ("é" * 2, 4), ("z" * 3, 3)]
    assert second == [("é" * 4, 8)]


def test_an_importance_matrix_is_the_mean_square_of_each_input(model: Llama, tokenizer_model: Path) -> None:
    windows = windows_of(DOCUMENTS, SentencePieceTokenizer(tokenizer_model), bos=False, context=model.shape.context)
    found = importance_matrix(model, windows)
    names = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    assert set(found) == {f"blk.{layer}.{name}.weight" for layer in range(model.shape.layers) for name in names}
    with torch.no_grad():
        inputs = model.layers[0].input_layernorm(model.embed_tokens(windows.tokens[windows.targets >= 0]))
    np.testing.assert_allclose(found["blk.0.attn_q.weight"], inputs.square().mean(0).numpy(), rtol=1e-5)
    assert found["blk.1.ffn_down.weight"].shape == (model.shape.ffn,)
    found.clear()
    model.hidden(windows.tokens)
    assert not found  # nothing watches the model any more


def test_an_export_states_what_it_measured(
    tmp_path: Path, model: Llama, tokenizer_model: Path, stand_in: dict[str, float]
) -> None:
    stand_in["factor"] = 1.01
    result = exported(model, tokenizer_model, tmp_path / "a")
    assert 0 < result.kl_divergence <= 0.1
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {"tiny-Q4_K_M.gguf", "Modelfile", "README.md", QUANTIZATION, ".tinyllama.json"}
    stated = json.loads((tmp_path / "a" / QUANTIZATION).read_text())
    assert stated == json.loads(result.model_dump_json())
    card = (tmp_path / "a/README.md").read_text()
    assert f"{result.kl_divergence:.2g} nats per token" in card
    assert f"{result.bits_per_byte:.4f} bits per byte" in card
    assert "| F32 | " in card
    assert exported(model, tokenizer_model, tmp_path / "a") == result  # replaces it


@pytest.mark.parametrize("factor", [5.0, math.nan])
def test_a_model_that_is_too_far_off_is_not_exported(
    tmp_path: Path, model: Llama, tokenizer_model: Path, stand_in: dict[str, float], factor: float
) -> None:
    stand_in["factor"] = factor
    with pytest.raises(ExportError, match=r"tiny-Q4_K_M.gguf: not written: .* above 0.1, the limit of Q4_K_M"):
        exported(model, tokenizer_model, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("stand_in")
def test_a_text_that_is_too_short_is_refused(tmp_path: Path, model: Llama, tokenizer_model: Path) -> None:
    with pytest.raises(ExportError, match=r"at least 256 are needed"):
        exported(model, tokenizer_model, tmp_path / "a", [("the cat", 7)])
    assert list(tmp_path.iterdir()) == []


def test_without_llamacpp_nothing_is_written_and_the_extra_is_named(
    tmp_path: Path, model: Llama, tokenizer_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    quantizer.load_llama_cpp.cache_clear()
    with pytest.raises(ExportError, match=r"needs an extra: pip install .*serve"):
        exported(model, tokenizer_model, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_types_are_counted_by_weights(tmp_path: Path, model: Llama, tokenizer_model: Path) -> None:
    tokenizer, path = SentencePieceTokenizer(tokenizer_model), tmp_path / "a.gguf"
    write_gguf(model.state_dict(), model.shape, tokenizer, path, "Q8_0", ModelInfo("tiny", "mit"))
    shares = type_shares(GgufFile(path))
    down = model.shape.ffn * model.shape.width * model.shape.layers  # rows of 172, which are not blocks of 32
    norms = (2 * model.shape.layers + 1) * model.shape.width
    assert shares["F16"] == TypeShare(tensors=model.shape.layers, weights=down)
    assert shares["F32"] == TypeShare(tensors=2 * model.shape.layers + 1, weights=norms)
    assert sum(share.weights for share in shares.values()) == model.shape.parameters
    assert list(shares) == ["Q8_0", "F16", "F32"]


def test_a_card_warns_where_less_than_half_of_the_weights_have_the_type() -> None:
    assert record().warning is None
    assert "Note" not in record().describe()
    mixed = {"Q5_0": TypeShare(tensors=9, weights=80), "Q4_K": TypeShare(tensors=1, weights=20)}
    fallen_back = record(tensor_types=mixed)
    assert "only 20% of the weights are Q4_K" in str(fallen_back.warning)
    assert "80% Q5_0 and 20% Q4_K" in fallen_back.describe()
