"""A tokenizer.model with tokens that only the files beside it name, as fine-tuned chat models have them."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING

import pytest
from transformers import AutoTokenizer

from tinyllama.errors import CorpusError
from tinyllama.sources.builtin.registry import read_builtin
from tinyllama.tokenizer.convert import tokenizer_json, write_transformers_files
from tinyllama.tokenizer.opening import open_tokenizer
from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer
from tinyllama.tokenizer.training import train_model

if TYPE_CHECKING:
    from pathlib import Path

PIECES = 500
START, END, PLAIN = "<|im_start|>", "<|im_end|>", "<tool>"
TEXTS = ["hello world", "  two spaces", "床前明月光 🦙", "a\nb"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    texts = [str(raw.data) for raw in islice(read_builtin("docstrings"), 200)]
    data: bytes = train_model(texts, PIECES)
    folder = tmp_path_factory.mktemp("model")
    (folder / "tokenizer.model").write_bytes(data)
    return data


def in_tokenizer_json(folder: Path) -> None:
    state = tokenizer_json(folder / "tokenizer.model")
    for index, text in enumerate((START, END, PLAIN), PIECES):
        entry = {"id": index, "content": text, "special": text != PLAIN, "normalized": False}
        state["added_tokens"].append(entry | {"lstrip": False, "rstrip": False, "single_word": False})
    (folder / "tokenizer.json").write_text(json.dumps(state))


def in_added_tokens(folder: Path) -> None:
    (folder / "added_tokens.json").write_text(json.dumps({START: PIECES, END: PIECES + 1, PLAIN: PIECES + 2}))
    (folder / "special_tokens_map.json").write_text(
        json.dumps({"eos_token": END, "additional_special_tokens": [START]})
    )


def in_settings(folder: Path) -> None:
    decoder = {
        str(index): {"content": text, "special": text != PLAIN}
        for index, text in enumerate((START, END, PLAIN), PIECES)
    }
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder}))


@pytest.mark.parametrize("write", [in_tokenizer_json, in_added_tokens, in_settings])
def test_added_tokens_are_known_wherever_they_are_written(model: bytes, tmp_path: Path, write: object) -> None:
    assert callable(write)
    (tmp_path / "tokenizer.model").write_bytes(model)
    plain = SentencePieceTokenizer(tmp_path / "tokenizer.model")
    sha256 = plain.sha256
    write(tmp_path)
    tokenizer = open_tokenizer(tmp_path)
    assert [tuple(token) for token in tokenizer.added_tokens] == [(START, True), (END, True), (PLAIN, False)]
    assert tokenizer.vocab_size == PIECES + 3
    assert tokenizer.has_piece(END)
    assert tokenizer.sha256 != sha256
    for text in TEXTS:
        ids = tokenizer.encode([text])[0]
        assert tokenizer.decode([PIECES, *ids, PIECES + 1]) == plain.decode(ids)


def test_an_added_token_spelled_in_a_text_is_text(model: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(model)
    plain = SentencePieceTokenizer(tmp_path / "tokenizer.model").encode([f"{START}x{PLAIN}"])
    in_added_tokens(tmp_path)
    assert open_tokenizer(tmp_path).encode([f"{START}x{PLAIN}"]) == plain


def test_transformers_reads_and_decodes_what_we_write_as_we_do(model: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(model)
    in_added_tokens(tmp_path)
    ours = open_tokenizer(tmp_path)
    (tmp_path / "out").mkdir()
    write_transformers_files(ours.model_file, tmp_path / "out", context=64)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert theirs.convert_tokens_to_ids([START, END, PLAIN]) == [PIECES, PIECES + 1, PIECES + 2]
    for text in TEXTS:
        ids = ours.encode([text])[0]
        assert theirs(text, add_special_tokens=False)["input_ids"] == ids
        for mixed in ([*ids, PIECES + 2, *ids], [PIECES + 2, *ids], [PIECES, *ids, PIECES + 1, *ids]):
            assert ours.decode(mixed) == theirs.decode(mixed, skip_special_tokens=True)
    assert [tuple(token) for token in open_tokenizer(tmp_path / "out").added_tokens] == [
        tuple(token) for token in ours.added_tokens
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({START: PIECES + 1}, r"up to id 501, but not for all ids after the 500 pieces"),
        ({START: "x"}, "cannot be read"),
    ],
)
def test_added_tokens_that_cannot_be_are_refused(
    model: bytes, tmp_path: Path, content: dict[str, object], message: str
) -> None:
    (tmp_path / "tokenizer.model").write_bytes(model)
    (tmp_path / "added_tokens.json").write_text(json.dumps(content))
    with pytest.raises(CorpusError, match=message):
        open_tokenizer(tmp_path)
