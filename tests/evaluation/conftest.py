"""A small random Llama saved by transformers, its tokenizer, and rows of the seven tasks."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tinyllama.model import Llama
from tinyllama.recipe import ModelShape
from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer
from tinyllama.tokenizer.training import train_model

if TYPE_CHECKING:
    from pathlib import Path

WORDS = "the cat sat on a mat and saw seven dogs run to an old town quickly before rain came down"
CONTEXT = 48
SHAPE = {
    "layers": 2,
    "width": 32,
    "ffn": 64,
    "heads": 4,
    "kv_heads": 2,
    "context": CONTEXT,
    "vocab_size": 340,
}


def any_random(seed: int | str) -> random.Random:
    """A source of texts: any will do, the same each time."""
    return random.Random(seed)  # noqa: S311  # no secret


def sentence(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(WORDS.split()) for _ in range(words))


def write_rows(folder: Path, questions: int = 4) -> Path:
    """Rows of the seven tasks in the layout of the hub's originals, some longer than the context."""
    rng = any_random(5)

    def choices(n: int) -> dict[str, list[str]]:
        return {"text": [sentence(rng, rng.randint(1, 9)) for _ in range(n)], "label": list("ABCDE"[:n])}

    def multiple(key: str, index: int) -> dict[str, Any]:
        return {
            "id": str(index),
            key: sentence(rng, 5 * index + 3),
            "choices": choices(3 + index % 3),
            "answerKey": "B",
        }

    rows = {
        "hellaswag_validation": lambda i: {
            "ind": i, "activity_label": "Walking", "ctx_a": sentence(rng, 9), "ctx_b": "then [title] it",
            "endings": [sentence(rng, 3 + 2 * j) + " [step] on" for j in range(4)], "label": str(i % 4),
        },
        "openbookqa_test": lambda i: multiple("question_stem", i),
        "winogrande_xl_validation": lambda _: {
            "sentence": f"{sentence(rng, 4)} _ {sentence(rng, 6)}.",
            "option1": "cat", "option2": "dogs", "answer": "2",
        },
        "arc_challenge_test": lambda i: multiple("question", i),
        "arc_easy_test": lambda i: multiple("question", i),
        "boolq_validation": lambda i: {
            "passage": sentence(rng, 40), "question": sentence(rng, 5), "label": i % 2, "idx": i,
        },
        "piqa_validation": lambda i: {
            "goal": sentence(rng, 6), "sol1": sentence(rng, 8), "sol2": sentence(rng, 5) + " ",
            "label": i % 2,
        },
    }  # fmt: skip
    for name, make in rows.items():
        lines = [json.dumps(make(i)) for i in range(questions)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("llama"))


def write_llama(path: Path) -> Path:
    """A random small Llama and its tokenizer, saved by transformers."""
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaTokenizer

    rng = any_random(3)
    text = [sentence(rng, 12).capitalize() + ". Question: Answer:" for _ in range(200)]
    (path / "tokenizer.model").write_bytes(train_model(text, SHAPE["vocab_size"]))
    LlamaTokenizer.from_pretrained(path, add_bos_token=True).save_pretrained(path)
    config = LlamaConfig(
        vocab_size=SHAPE["vocab_size"],
        hidden_size=SHAPE["width"],
        intermediate_size=SHAPE["ffn"],
        num_hidden_layers=SHAPE["layers"],
        num_attention_heads=SHAPE["heads"],
        num_key_value_heads=SHAPE["kv_heads"],
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        initializer_range=0.3,  # likelihoods far from uniform, and apart
    )
    torch.manual_seed(1)
    theirs = LlamaForCausalLM(config)
    # No stray bytes in greedy text: decoders spell those that are not UTF-8 differently.
    theirs.lm_head.weight.data[: 3 + 256] = 0
    theirs.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def tokenizer(folder: Path) -> SentencePieceTokenizer:
    return SentencePieceTokenizer(folder / "tokenizer.model")


@pytest.fixture(scope="session")
def model(folder: Path) -> Llama:
    from safetensors.torch import load_file

    ours = Llama(ModelShape(**SHAPE))
    weights = load_file(folder / "model.safetensors")
    ours.load_state_dict({name.removeprefix("model."): weight for name, weight in weights.items()})
    return ours
