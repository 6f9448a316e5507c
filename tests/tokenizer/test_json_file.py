from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tinyllama.errors import CorpusError
from tinyllama.prepare.tokenizer import obtain_tokenizer
from tinyllama.recipe import load_recipe
from tinyllama.tokenizer.byte_level import USER_DEFINED, ByteLevel, read_byte_level, tokenizer_json
from tinyllama.tokenizer.convert import write_transformers_files
from tinyllama.tokenizer.json_file import portable_json
from tinyllama.tokenizer.opening import open_tokenizer
from tinyllama.tokenizer.sentencepiece_writer import CONTROL, NORMAL
from tinyllama.tokenizer.training import train_model

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = [
    "the cat", " the  cat", "  ", "", "don't CAN'T we'll", "1234567 12.5", "人工智能是", "🦙 é e\u0301", "\n\n\tx\r\n",
    "<s>text</s>", "▁x", "a\0b", "x" * 3000,
]  # fmt: skip
SPECIAL = ["<s>", "</s>"]


def trained(rule: str) -> ByteLevel:
    """A small byte-level BPE, as a GGUF file would hold it."""
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(["the small cat and the other cat; don't they sleep? 人工智能 " * 30], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = [*model["vocab"], "<extra>"]
    kinds = [CONTROL, CONTROL] + [NORMAL] * (len(tokens) - 3) + [USER_DEFINED]
    return ByteLevel(rule, tokens, kinds, [" ".join(merge) for merge in model["merges"]])


def write(folder: Path, pieces: ByteLevel, bos: str | None = "<s>", **config: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer_json(pieces, bos))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"} | config))
    return folder


@pytest.mark.parametrize("rule", ["gpt-2", "smollm", "llama-bpe"])
def test_texts_come_back_and_special_tokens_in_them_stay_text(tmp_path: Path, rule: str) -> None:
    tokenizer = open_tokenizer(write(tmp_path / "a", trained(rule)))
    for text, ids in zip(TEXTS, tokenizer.encode(TEXTS), strict=True):
        assert tokenizer.decode(ids) == text
        assert not {tokenizer.bos_id, tokenizer.eos_id} & set(ids)
    assert tokenizer.vocab_size == len(trained(rule).tokens)


def test_digits_stand_alone_under_smollms_rule(tmp_path: Path) -> None:
    tokenizer = open_tokenizer(write(tmp_path / "a", trained("smollm")))
    assert [tokenizer.decode([index]) for index in tokenizer.encode(["123"])[0]] == ["1", "2", "3"]


@pytest.mark.parametrize("rule", ["gpt-2", "smollm", "llama-bpe"])
def test_pieces_written_and_read_are_the_same(rule: str) -> None:
    pieces = trained(rule)
    read = read_byte_level(json.loads(tokenizer_json(pieces, "<s>")), len(pieces.tokens) + 3, "here")
    assert read.rule == rule
    assert read.merges == pieces.merges
    assert list(read.tokens[:-3]) == list(pieces.tokens)
    assert list(read.kinds) == [*pieces.kinds, 5, 5, 5]


def test_bos_goes_before_a_prompt_where_the_tokenizer_says_so(tmp_path: Path) -> None:
    with_bos = open_tokenizer(write(tmp_path / "a", trained("gpt-2"), "<s>"))
    without = open_tokenizer(write(tmp_path / "b", trained("gpt-2"), None))
    assert with_bos.encode_prompt("the")[0] == with_bos.bos_id
    assert without.encode_prompt("the") == without.encode(["the"])[0]


def test_a_rule_nobody_knows_is_refused() -> None:
    with pytest.raises(CorpusError, match=r"rule for words, 'kimi-k2' in llama.cpp, is not among gpt-2, smollm"):
        tokenizer_json(trained("kimi-k2"), None)
    state = json.loads(tokenizer_json(trained("gpt-2"), None)) | {"pre_tokenizer": {"type": "Whitespace"}}
    with pytest.raises(CorpusError, match="GGUF cannot describe it"):
        read_byte_level(state, 500, "here")


@pytest.mark.parametrize(
    ("config", "message"),
    [({"eos_token": None}, "names no eos_token"), ({"bos_token": {"content": "<none>"}}, "bos_token")],
)
def test_a_tokenizer_without_bos_or_eos_is_refused(tmp_path: Path, config: dict[str, object], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        open_tokenizer(write(tmp_path / "a", trained("gpt-2"), **config))


def test_a_recipe_may_name_a_tokenizer_json(tmp_path: Path) -> None:
    pieces = trained("gpt-2")
    source = write(tmp_path / "a", pieces)
    settings = [f"tokenizer={{file: {source}/tokenizer.json}}", f"model.vocab_size={len(pieces.tokens)}"]
    recipe = load_recipe("nano", settings)
    made = obtain_tokenizer(recipe, tmp_path / "made", tmp_path, lambda _rejected: None)
    assert made.encode(TEXTS) == open_tokenizer(source).encode(TEXTS)
    before = (tmp_path / "made" / "origin.json").stat().st_mtime_ns
    again = obtain_tokenizer(recipe, tmp_path / "made", tmp_path, lambda _rejected: None)
    assert again.sha256 == made.sha256
    assert (tmp_path / "made" / "origin.json").stat().st_mtime_ns == before
    other = tmp_path / "replaced"
    model = tmp_path / "small.model"
    model.write_bytes(train_model(["the small cat and the other cat; don't they sleep? " * 30], 280))
    earlier = load_recipe("nano", [f"tokenizer={{file: {model}}}", "model.vocab_size=280"])
    obtain_tokenizer(earlier, other, tmp_path, lambda _rejected: None)
    replaced = obtain_tokenizer(recipe, other, tmp_path, lambda _rejected: None)
    assert replaced.sha256 == open_tokenizer(other).sha256 == made.sha256
    (source / "tokenizer_config.json").unlink()
    with pytest.raises(CorpusError, match="names BOS and EOS"):
        obtain_tokenizer(recipe, tmp_path / "other", tmp_path, lambda _rejected: None)


def test_an_exported_copy_has_merges_that_old_releases_read_and_no_settings_of_a_training_script(
    tmp_path: Path,
) -> None:
    folder = write(tmp_path / "a", trained("gpt-2"))
    written = folder / "tokenizer.json"
    clean = json.loads(written.read_bytes())
    clean["model"]["merges"] = [" ".join(merge) for merge in clean["model"]["merges"]]
    copies, again = tmp_path / "b", tmp_path / "c"
    tokenizer = Tokenizer.from_file(str(written))
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=16)
    state = json.loads(tokenizer.to_str())
    state["model"]["dropout"] = 0.5
    written.write_text(json.dumps(state))
    for source, target in ((folder, copies), (copies, again)):
        target.mkdir()
        write_transformers_files(source / "tokenizer.json", target, context=64)
        assert json.loads((target / "tokenizer.json").read_bytes()) == clean
    assert (again / "tokenizer.json").read_bytes() == (copies / "tokenizer.json").read_bytes()


def test_merges_of_tokens_with_spaces_stay_pairs(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": {"merges": [["a b", "c"], ["d", "e"]]}}')
    assert portable_json(tmp_path / "tokenizer.json") == (tmp_path / "tokenizer.json").read_bytes()
