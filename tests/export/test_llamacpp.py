"""llama.cpp on our GGUF files: `make test-llamacpp`, which builds it."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.export.hub_models import save_hub_model
from tests.export.strings import strings
from tests.export.test_shapes import IN_GGUF, export_f32
from tests.tokenizer.test_json_file import trained, write
from tinyllama.errors import ExportError
from tinyllama.export import QUANTIZED, HeldOutText, ModelInfo, QuantizationRecord, convert_to_gguf, export_gguf
from tinyllama.formats.gguf.file import GgufFile
from tinyllama.formats.gguf.quantizer import quantize_file
from tinyllama.formats.gguf.tokenizer import write_gguf_tokenizer
from tinyllama.formats.gguf.writer import write_gguf
from tinyllama.formats.open import open_model
from tinyllama.inference import Sampling, decode_batch
from tinyllama.model import Llama
from tinyllama.recipe import ModelShape
from tinyllama.serve.llama_cpp_engine import LlamaCppEngine
from tinyllama.sources.builtin.registry import read_builtin
from tinyllama.tokenizer.opening import open_tokenizer
from tinyllama.tokenizer.pretokenizers import RULES as PRETOKENIZERS
from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer
from tinyllama.tokenizer.training import train_model

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.formats.model_source import OpenModel

pytestmark = pytest.mark.slow
llama_cpp = pytest.importorskip("llama_cpp", reason="make test-llamacpp builds it")

SHAPE = ModelShape(layers=4, width=128, ffn=352, heads=8, kv_heads=2, context=256, vocab_size=1000)
F32 = 0
"""llama.cpp's number for the type, here of keys and values: its default is F16."""
PROMPTS = [
    "The people of", "Return the", "once upon a time", "2 + 2 =", "A small cat sat on the mat. ",
    " leading space", "  two leading spaces", "\ttab", "\nline", "trailing space ",
    "人工智能是", "你好世界", "床前明月光",
    "def add(a, b):\n    return", "for (int i = 0; i < n; i++) {", "SELECT * FROM t WHERE",
    "🦙", "I like 🚀🚀 and", "naïve café e\u0301", "x",
]  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Llama:
    """Random weights, peaked like a trained model's, so that no two logits are a rounding apart."""
    model = Llama(SHAPE)
    model.initialize(0)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    return model.eval()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> SentencePieceTokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    texts = [str(raw.data) for name in ("docstrings", "chinese-phrases") for raw in islice(read_builtin(name), 200)]
    path.write_bytes(train_model(texts, SHAPE.vocab_size))
    return SentencePieceTokenizer(path)


@pytest.fixture(scope="module")
def engine(model: Llama, tokenizer: SentencePieceTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: ANN401  # a Llama of llama_cpp
    folder = tmp_path_factory.mktemp("export") / "model"
    export_gguf(
        model.state_dict(), shape=SHAPE, tokenizer=tokenizer, folder=folder, kind="F32", about=ModelInfo("tiny", "mit")
    )
    (path,) = folder.glob("*.gguf")
    return llama_cpp.Llama(str(path), n_ctx=SHAPE.context, type_k=F32, type_v=F32, verbose=False)


@pytest.mark.parametrize("prompt", PROMPTS, ids=ascii)
def test_llamacpp_continues_with_our_greedy_tokens(
    model: Llama,
    tokenizer: SentencePieceTokenizer,
    engine: Any,  # noqa: ANN401  # as above
    prompt: str,
) -> None:
    ids = tokenizer.encode_prompt(prompt)
    assert engine.tokenize(prompt.encode(), add_bos=True, special=False) == ids
    greedy = Sampling(temperature=0, repetition_penalty=1.0)
    steps = decode_batch(model, [ids], greedy, end_ids=(), max_new_tokens=64, seed=0)
    ours = [new for (new,) in steps]
    engine.reset()
    assert list(islice(engine.generate(ids, temp=0.0, repeat_penalty=1.0), 64)) == ours


def test_there_are_twenty_prompts() -> None:
    assert len(set(PROMPTS)) == 20


def test_llamacpp_gives_our_ids(tokenizer: SentencePieceTokenizer, engine: Any) -> None:  # noqa: ANN401  # as above
    texts = strings(10_000, line=1_000_000)
    differing = [
        text[:80]
        for text, ids in zip(texts, tokenizer.encode(texts), strict=True)
        if engine.tokenize(text.encode(), add_bos=False, special=False) != ids
    ]
    assert differing == []


@pytest.mark.parametrize("name", IN_GGUF)
def test_llamacpp_computes_our_logits_of_every_shape(
    tmp_path: Path, tokenizer: SentencePieceTokenizer, name: str
) -> None:
    save_hub_model(name, tmp_path / "hub", tokenizer.vocab_size)
    source = open_model(tmp_path / "hub")
    path = export_f32(source, tmp_path / "gguf", tokenizer.model_file)
    tokens = torch.randint(tokenizer.vocab_size, (200,), generator=torch.Generator().manual_seed(1)).tolist()
    engine = LlamaCppEngine(path, 256, exact=True)
    theirs = torch.cat(list(map(torch.from_numpy, engine.prompt_logits(tokens, 0))))
    engine.close()
    with torch.no_grad():
        ours = source.load()(torch.tensor([tokens]))[0]
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def blocks_of_256(tmp_path_factory: pytest.TempPathFactory, tokenizer: SentencePieceTokenizer) -> OpenModel:
    """A model whose rows are whole blocks of the K types."""
    shape = SHAPE.model_copy(update={"layers": 2, "width": 256, "ffn": 512})
    model, folder = Llama(shape), tmp_path_factory.mktemp("wide")
    model.initialize(0)
    about = ModelInfo("wide", "mit")
    write_gguf(model.state_dict(), shape, tokenizer, folder / "wide.gguf", "F32", about)
    return open_model(folder / "wide.gguf")


def held_out(*, importance: bool) -> HeldOutText:
    texts = [str(raw.data) for raw in islice(read_builtin("docstrings"), 200, 400)]
    return HeldOutText({"docs": [(text, len(text.encode())) for text in texts]}, bos=False, importance=importance)


@pytest.mark.parametrize("kind", QUANTIZED)
def test_llamacpp_quantizes_within_the_limit_and_we_read_the_file(
    tmp_path: Path, blocks_of_256: OpenModel, kind: str
) -> None:
    result = convert_to_gguf(blocks_of_256, tmp_path / "a", kind, held_out(importance=False))
    assert isinstance(result, QuantizationRecord)
    assert 0 < result.kl_divergence <= result.limit
    assert result.bits_per_byte == pytest.approx(result.bits_per_byte_f32, rel=0.02)
    assert result.warning is None
    (path,) = (tmp_path / "a").glob("*.gguf")
    assert path.stat().st_size < blocks_of_256.path.stat().st_size / 3
    assert open_model(path).load().shape == blocks_of_256.shape


def test_an_importance_matrix_lessens_the_error_that_it_weights(tmp_path: Path, blocks_of_256: OpenModel) -> None:
    name = "layers.1.mlp.down_proj.weight"
    columns = torch.ones(512)
    columns[::7] = 1000.0
    errors = []
    for importance in ({}, {"blk.1.ffn_down.weight": columns.numpy()}):
        path = tmp_path / f"{len(importance)}.gguf"
        quantize_file(blocks_of_256.path, path, "Q4_0", importance)
        error = open_model(path).weights[name] - blocks_of_256.weights[name]
        errors.append(float((columns * error.square()).sum()))
    assert errors[1] < 0.9 * errors[0]
    result = convert_to_gguf(blocks_of_256, tmp_path / "a", "Q4_K_M", held_out(importance=True))
    assert isinstance(result, QuantizationRecord)
    assert result.importance_tokens > result.tokens


def test_what_llamacpp_cannot_quantize_has_its_reason(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="failed to load model from"):
        quantize_file(tmp_path / "nothing.gguf", tmp_path / "a.gguf", "Q4_0", {})


@pytest.mark.parametrize("rule", ["smaug-bpe", "deepseek-r1-qwen", *PRETOKENIZERS])
def test_llamacpp_gives_our_ids_by_every_rule_for_words(tmp_path: Path, rule: str) -> None:
    tokenizer = open_tokenizer(write(tmp_path / "tokenizer", trained(rule)))
    shape = SHAPE.model_copy(update={"vocab_size": tokenizer.vocab_size, "layers": 1})
    model, about = Llama(shape), ModelInfo("tiny", "mit")
    model.initialize(0)
    folder = tmp_path / "gguf"
    export_gguf(model.state_dict(), shape=shape, tokenizer=tokenizer, folder=folder, kind="F32", about=about)
    (path,) = folder.glob("*.gguf")
    assert GgufFile(path).require("tokenizer.ggml.pre", str) in {rule, "dbrx", "qwen2"}
    engine = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    (tmp_path / "back").mkdir()
    write_gguf_tokenizer(GgufFile(path), tmp_path / "back")
    imported = open_tokenizer(tmp_path / "back")
    texts = strings(600, line=20_000)
    theirs = [engine.tokenize(text.encode(), add_bos=False, special=False) for text in texts]
    assert imported.encode(texts) == tokenizer.encode(texts)
    differing = [
        text[:80] for text, ours, ids in zip(texts, tokenizer.encode(texts), theirs, strict=True) if ours != ids
    ]
    assert differing == []
