"""What other tools make of an exported tokenizer: the ids that ours gives. llama.cpp's are in test_llamacpp.py."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import pytest
from sentencepiece import SentencePieceProcessor

from tests.export.strings import SPECIAL, strings
from tinyllama.sources.builtin.registry import read_builtin
from tinyllama.tokenizer.convert import write_transformers_files
from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer
from tinyllama.tokenizer.training import train_model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    texts = [str(raw.data) for name in ("docstrings", "chinese-phrases") for raw in islice(read_builtin(name), 100)]
    (folder / "trained.model").write_bytes(train_model(texts, 800))
    write_transformers_files(folder / "trained.model", folder, context=64)
    return folder


@pytest.mark.parametrize(
    ("count", "line"), [(600, 20_000), pytest.param(10_000, 1_000_000, marks=pytest.mark.slow)]
)  # fmt: skip
def test_transformers_and_sentencepiece_give_our_ids(folder: Path, count: int, line: int) -> None:
    from transformers import AutoTokenizer

    ours = SentencePieceTokenizer(folder / "tokenizer.model")
    auto = AutoTokenizer.from_pretrained(folder)
    reference = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    texts = strings(count, line=line)
    assert len(texts) == count
    assert sum(any(word in text for word in SPECIAL) for text in texts) > count / 100
    for text, ids in zip(texts, ours.encode(texts), strict=True):
        assert reference.encode(text) == ids
        assert auto(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] == ids
        if not any(word in text for word in SPECIAL):
            assert auto(text)["input_ids"] == [ours.bos_id, *ids]
