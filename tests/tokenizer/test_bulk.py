"""Exactness: every engine gives the ids that SentencePiece gives for the whole document."""

import logging
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.tokenizer.test_sentencepiece_file import texts
from tinyllama.errors import CorpusError
from tinyllama.tokenizer import bulk
from tinyllama.tokenizer.bulk import (
    CheckedEncoder,
    Encoded,
    Engine,
    ReferenceEngine,
    can_divide,
    divide_text,
    open_engine,
)
from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer
from tinyllama.tokenizer.training import train_model

WORDS = (
    " ", "  ", "   ", "▁", "\n", "\r\n", "\t", "\0", "<s>", "</s>", "<unk>", "<0x0A>", "<0xE4>", "<0x", "<", "/s>",
    "x", "xy", "the", " the", "ing", "1", "12", "return", "中", "中文", "é", "e\u0301", "😀", "\u2028", "\ufeff",
    "\ufffd", "\U000e0001",
)  # fmt: skip
strange = st.lists(st.sampled_from(WORDS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)).map("".join)


@pytest.fixture(scope="module", params=["characters covered", "few characters"])
def model_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vocabulary that has a piece for "<", and one that spells it in bytes."""
    learned = texts() if request.param == "characters covered" else [text.replace("<", "") for text in texts()]
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    path.write_bytes(train_model(learned, 700))
    return path


@pytest.fixture(scope="module")
def fast(model_file: Path) -> tuple[SentencePieceTokenizer, Engine]:
    pytest.importorskip("fastokens")
    tokenizer = SentencePieceTokenizer(model_file)
    engine = open_engine(tokenizer)
    assert engine.name.startswith("fastokens")
    return tokenizer, engine


def lists(encoded: Encoded) -> list[list[int]]:
    return [encoded.of(index).tolist() for index in range(len(encoded.bounds) - 1)]


@settings(max_examples=300, deadline=None)
@given(batch=st.lists(strange, min_size=1, max_size=6))
@example(batch=["", "</s>", "<0x0A>", " ", "a" * 3000, " " * 3000, "▁ ▁"])
def test_the_fast_engine_gives_the_ids_of_sentencepiece(
    fast: tuple[SentencePieceTokenizer, Engine], batch: list[str]
) -> None:
    tokenizer, engine = fast
    assert lists(engine.encode(batch)) == tokenizer.encode(batch)


def test_the_fast_engine_gives_the_ids_of_sentencepiece_for_real_text(
    fast: tuple[SentencePieceTokenizer, Engine],
) -> None:
    tokenizer, engine = fast
    assert lists(engine.encode(texts())) == tokenizer.encode(texts())


@settings(max_examples=200, deadline=None)
@given(text=strange, limit=st.integers(1, 8))
def test_a_text_divided_before_runs_of_spaces_keeps_its_ids(model_file: Path, text: str, limit: int) -> None:
    tokenizer = SentencePieceTokenizer(model_file)
    assert can_divide(tokenizer)
    parts = divide_text(text, limit)
    assert list(chain.from_iterable(tokenizer.encode(parts))) == tokenizer.encode([text])[0]
    assert len(" ".join(parts)) == len(text)


def test_long_texts_of_the_reference_are_divided_and_keep_their_ids(
    model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "_LONG", 50)
    tokenizer = SentencePieceTokenizer(model_file)
    batch = ["short", "", *texts()[:10]]
    assert lists(ReferenceEngine(tokenizer).encode(batch)) == tokenizer.encode(batch)


def test_a_document_of_16_million_characters_takes_seconds(fast: tuple[SentencePieceTokenizer, Engine]) -> None:
    _, engine = fast
    encoded = engine.encode(["The quick brown fox jumps over  the lazy dog, 1234 times.\n" * 280_000])
    assert encoded.bounds[-1] == len(encoded.ids) > 1_000_000


class WrongOnce:
    """An engine that changes one id of one text."""

    name = "wrong 1.0"

    def __init__(self, engine: Engine, text: str) -> None:
        self._engine, self._text = engine, text

    def encode(self, batch: list[str]) -> Encoded:
        ids, bounds = self._engine.encode(batch)
        ids = ids.copy()
        if self._text in batch:
            ids[bounds[batch.index(self._text)] + 2] += 1
        return Encoded(ids, bounds)


def test_an_id_that_differs_from_sentencepiece_stops_and_names_the_document(model_file: Path) -> None:
    tokenizer = SentencePieceTokenizer(model_file)
    engine = WrongOnce(ReferenceEngine(tokenizer), "the third text")
    batch, origins = ["one text", "another text", "the third text"], ["a:1", "a:2", "a:3"]
    with pytest.raises(CorpusError, match=r"a:3: wrong 1\.0 gives other ids .* from token 2 on"):
        CheckedEncoder(tokenizer, engine).encode(batch, origins)


def test_a_difference_far_into_a_task_is_found_by_comparing_every_document(model_file: Path) -> None:
    tokenizer = SentencePieceTokenizer(model_file)
    batch = [f"text number {n}" for n in range(300)]
    origins = [f"a:{n}" for n in range(300)]
    engine = WrongOnce(ReferenceEngine(tokenizer), "text number 203")
    sampled = CheckedEncoder(tokenizer, engine)
    sampled.encode(batch, origins)
    assert 8 <= sampled.checked < 12
    with pytest.raises(CorpusError, match="a:203"):
        CheckedEncoder(tokenizer, engine, every=True).encode(batch, origins)


def test_without_the_fast_engine_sentencepiece_encodes_and_a_line_says_so(
    model_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bulk, "find_spec", lambda _: None)
    with caplog.at_level(logging.WARNING, logger="tinyllama"):
        engine = open_engine(SentencePieceTokenizer(model_file))
    assert engine.name.startswith("sentencepiece")
    assert "fastokens is not installed" in caplog.text
    assert engine.encode(["x"]).ids.dtype == np.uint32
