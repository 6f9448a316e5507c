import base64
import io
import json
import random
import struct
import sys
import tarfile
from functools import cache
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyllama.errors import CorpusError, SourceError
from tinyllama.prepare.tokenizer import obtain_tokenizer
from tinyllama.recipe import Corpus, Recipe, TokenizerSettings, load_recipe
from tinyllama.sources.builtin.registry import read_builtin
from tinyllama.tokenizer.convert import write_transformers_files
from tinyllama.tokenizer.llama2 import model_from_javascript, pieces_of_gguf
from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer
from tinyllama.tokenizer.training import train_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPECIAL = ("<unk>", "<s>", "</s>")


@cache
def texts() -> list[str]:
    """Prose, code, sums and Chinese: white space of every kind, digits, many characters."""
    prose = [str(raw.data) for raw in islice(read_builtin("docstrings"), 20)]
    code = "def f(x):\n    if x:\n        return  [x,   1]\n\t\treturn None\r\n"
    sums = [str(raw.data) for raw in read_builtin("arithmetic")][:60]
    chinese = [str(raw.data) for raw in read_builtin("chinese-phrases")][:60]
    return [code * 20, *prose, *sums, *chinese]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained tokenizer in transformers' form."""
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "trained.model").write_bytes(train_model(texts(), 600))
    write_transformers_files(folder / "trained.model", folder, context=64)
    return folder


@pytest.fixture
def recipe() -> Recipe:
    """The shipped nano recipe, learning from a fraction of its text."""
    recipe = load_recipe("nano")
    source = {"builtin": "docstrings", "limit": 50_000}
    corpus = {"sources": [source], "size": 1, "held_out": {"share": "5%"}, "license": "x"}
    return recipe.model_copy(update={"corpora": {"prose": Corpus.model_validate(corpus)}})


def with_tokenizer(recipe: Recipe, vocab_size: int = 512, **settings: str) -> Recipe:
    shape = recipe.model.model_copy(update={"vocab_size": vocab_size})
    tokenizer = TokenizerSettings.model_validate(settings)
    return recipe.model_copy(update={"tokenizer": tokenizer, "model": shape})


def obtain(recipe: Recipe, root: Path) -> SentencePieceTokenizer:
    return obtain_tokenizer(recipe, root / "tokenizer", root, pytest.fail)


strange_text = st.text(
    st.one_of(st.sampled_from(" \t\n\r\0▁ax1</s>_中😀é\u2028\ufeff"), st.characters(exclude_categories=["Cs"]))
)
plain_text = strange_text.filter(lambda text: not any(word in text for word in SPECIAL))


@given(text=strange_text)
def test_text_comes_back_and_special_spellings_stay_text(folder: Path, text: str) -> None:
    tokenizer = SentencePieceTokenizer(folder / "tokenizer.model")
    ids = tokenizer.encode([text])[0]
    assert tokenizer.bos_id not in ids
    assert tokenizer.eos_id not in ids
    # U+2581 is SentencePiece's own spelling of a space.
    assert tokenizer.decode(ids) == text.replace("▁", " ")


def test_encoding_many_texts_gives_what_each_gives(folder: Path) -> None:
    tokenizer = SentencePieceTokenizer(folder / "tokenizer.model")
    reference = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    many = [*texts(), "", "</s>", "\0", " " * 500, "1234567890"]
    assert tokenizer.encode(many) == [reference.encode(text) for text in many]
    assert tokenizer.encode([]) == []
    assert tokenizer.encode([""]) == [[]]


def test_training_twice_gives_the_same_bytes() -> None:
    assert train_model(texts(), 400) == train_model(iter(texts()), 400)


def test_digits_stand_apart_and_line_ends_are_bytes(folder: Path) -> None:
    tokenizer = SentencePieceTokenizer(folder / "tokenizer.model")
    reference = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    pieces = reference.id_to_piece(list(range(tokenizer.vocab_size)))
    assert not [
        piece
        for piece in pieces
        if any(c.isdigit() for c in piece) and len(piece.strip("▁")) > 1 and not piece.startswith("<0x")
    ]
    assert not [piece for piece in pieces if "\n" in piece]
    assert tokenizer.encode(["\n\n"])[0][-2:] == [3 + 10, 3 + 10]
    assert tokenizer.vocab_size == 600


def test_a_vocabulary_smaller_than_its_characters_keeps_room_for_merges() -> None:
    every = "".join(chr(code) for code in range(0x4E00, 0x5E00))
    model = sentencepiece.SentencePieceProcessor(model_proto=train_model([every, *texts()], 320))
    pieces = [model.id_to_piece(index) for index in range(259, 320)]
    assert len([piece for piece in pieces if len(piece) > 1]) >= 30


@pytest.mark.parametrize(
    ("learned", "vocab_size", "reason"),
    [([], 300, "no text"), (["a"], 260, "at least 261"), (["ab"], 5000, "smaller vocab_size")],
)
def test_training_that_cannot_work_says_why(learned: list[str], vocab_size: int, reason: str) -> None:
    with pytest.raises(CorpusError, match=reason):
        train_model(learned, vocab_size)


@settings(max_examples=300, deadline=None)
@given(text=plain_text)
def test_auto_tokenizer_gives_bos_and_the_ids_of_sentencepiece(folder: Path, text: str) -> None:
    tokenizer = SentencePieceTokenizer(folder / "tokenizer.model")
    auto = load_auto_tokenizer(folder)
    assert auto(text)["input_ids"] == [tokenizer.bos_id, *tokenizer.encode([text])[0]]


def test_auto_tokenizer_agrees_on_long_runs_and_real_text(folder: Path) -> None:
    tokenizer = SentencePieceTokenizer(folder / "tokenizer.model")
    auto = load_auto_tokenizer(folder)
    dice = random.Random(1)  # noqa: S311  # a test's variety
    runs = [
        "".join(dice.choice([" ", "  ", "x", "\t", "中", "0"]) * dice.randrange(30) for _ in range(20))
        for _ in range(200)
    ]
    for text in [*texts(), *runs]:
        assert auto(text)["input_ids"] == [tokenizer.bos_id, *tokenizer.encode([text])[0]]


@cache
def load_auto_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def test_auto_tokenizer_is_the_same_beside_a_llama_config(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, LlamaConfig

    LlamaConfig(vocab_size=600).save_pretrained(tmp_path)
    write_transformers_files(folder / "tokenizer.model", tmp_path, context=77)
    auto = AutoTokenizer.from_pretrained(tmp_path)
    text = "  two spaces, then 12\n"
    assert auto(text)["input_ids"] == load_auto_tokenizer(folder)(text)["input_ids"]
    assert set(auto(text)) == {"input_ids", "attention_mask"}
    assert (auto.bos_token_id, auto.eos_token_id, auto.unk_token_id) == (1, 2, 0)
    assert auto.model_max_length == 77
    assert auto.decode(auto(text)["input_ids"], skip_special_tokens=True) == text


def test_merges_are_spelled_as_old_readers_know_them(folder: Path) -> None:
    merges = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["merges"]
    assert len(merges) > 100
    assert all(len(merge.split(" ")) == 2 for merge in merges)


def test_a_tokenizer_trained_for_a_recipe_is_kept_until_its_settings_change(recipe: Recipe, tmp_path: Path) -> None:
    first = obtain(recipe, tmp_path)
    model = tmp_path / "tokenizer" / "tokenizer.model"
    stamp = model.stat().st_mtime_ns
    assert first.vocab_size == 512
    assert obtain(recipe, tmp_path).sha256 == first.sha256
    assert model.stat().st_mtime_ns == stamp
    source = {"builtin": "docstrings", "limit": 60_000}
    other = {"sources": [source], "size": 1, "held_out": {"share": "5%"}, "license": "x"}
    changed = recipe.model_copy(update={"corpora": {"prose": Corpus.model_validate(other)}})
    assert obtain(changed, tmp_path).sha256 != first.sha256


@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer.json"])
def test_a_damaged_tokenizer_folder_is_made_again(recipe: Recipe, tmp_path: Path, name: str) -> None:
    first = obtain(recipe, tmp_path)
    (tmp_path / "tokenizer" / name).write_text("damaged")
    assert obtain(recipe, tmp_path).sha256 == first.sha256
    json.loads((tmp_path / "tokenizer" / "tokenizer.json").read_text())


def test_a_tokenizer_folder_without_its_record_is_left_alone(recipe: Recipe, tmp_path: Path) -> None:
    obtain(recipe, tmp_path)
    (tmp_path / "tokenizer" / "origin.json").write_text("damaged")
    with pytest.raises(CorpusError, match=r"tinyllama did not write this.*move it away"):
        obtain(recipe, tmp_path)
    assert (tmp_path / "tokenizer" / "tokenizer.model").is_file()


def test_a_tokenizer_from_a_file_is_its_copy(recipe: Recipe, folder: Path, tmp_path: Path) -> None:
    data = (folder / "tokenizer.model").read_bytes()
    (tmp_path / "mine.model").write_bytes(data)
    obtain(with_tokenizer(recipe, 600, file="mine.model"), tmp_path)
    assert (tmp_path / "tokenizer" / "tokenizer.model").read_bytes() == data
    origin = json.loads((tmp_path / "tokenizer" / "origin.json").read_text())
    assert origin["origin"]["file"] == "mine.model"


def test_a_tokenizer_that_does_not_fit_the_recipe_is_refused(recipe: Recipe, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.model").write_bytes((folder / "tokenizer.model").read_bytes())
    with pytest.raises(CorpusError, match=r"600 ids but the recipe says model\.vocab_size: 512"):
        obtain(with_tokenizer(recipe, file="mine.model"), tmp_path)
    with pytest.raises(CorpusError, match=r"other\.model does not exist"):
        obtain(with_tokenizer(recipe, file="other.model"), tmp_path)
    (tmp_path / "other.model").write_text("no model")
    with pytest.raises(CorpusError, match="no SentencePiece model"):
        obtain(with_tokenizer(recipe, file="other.model"), tmp_path)


@pytest.mark.parametrize(
    ("option", "reason"), [({"bos_id": -1}, "no BOS or no EOS"), ({"byte_fallback": False}, "Llama's kind")]
)
def test_a_model_of_another_kind_is_refused(
    recipe: Recipe, tmp_path: Path, option: dict[str, object], reason: str
) -> None:
    model = io.BytesIO()
    options = {
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts()), model_writer=model, model_type="bpe", vocab_size=800,
        minloglevel=2, **(options | option),
    )  # fmt: skip
    (tmp_path / "mine.model").write_bytes(model.getvalue())
    with pytest.raises(CorpusError, match=reason):
        obtain(with_tokenizer(recipe, 800, file="mine.model"), tmp_path)


def javascript(merges: list[tuple[str, str]]) -> str:
    """A program like llama-tokenizer-js, whose vocabulary is made up: bytes, these merges, fillers, letters."""
    made = [left + right for left, right in merges]
    letters = ["▁", *"abcdefgh"]
    fillers = [f"filler{n}" for n in range(32000 - 259 - len(made) - len(letters))]
    pieces = [*SPECIAL, *(f"<0x{n:02X}>" for n in range(256)), *made, *fillers, *letters]
    numbers = {piece: index for index, piece in enumerate(pieces)}
    packed = b"".join(struct.pack("<HH", numbers[left], numbers[right]) for left, right in merges)
    vocabulary = "\n".join(pieces).encode()
    return (
        f'const llama_vocab_base64 = "{base64.b64encode(vocabulary).decode()}"\n'
        f'const llama_merges_binary = "{base64.b64encode(packed).decode()}"\n'
    )


def test_a_vocabulary_in_javascript_becomes_a_model_that_merges_in_its_order() -> None:
    data = model_from_javascript(javascript([("b", "c"), ("a", "b"), ("▁", "a"), ("▁", "▁")]))
    model = sentencepiece.SentencePieceProcessor(model_proto=data)
    assert model.encode("abc", out_type=str) == ["▁a", "bc"]
    assert model.encode("   ab", out_type=str) == ["▁▁", "▁▁", "ab"]
    assert model.encode("\n", out_type=str) == ["▁", "<0x0A>"]
    assert (model.unk_id(), model.bos_id(), model.eos_id()) == (0, 1, 2)


def test_javascript_whose_merges_are_out_of_order_is_refused() -> None:
    program = javascript([("b", "c"), ("a", "b")])
    head, _, tail = program.partition("const llama_merges_binary = ")
    packed = base64.b64decode(tail.strip().strip('"'))
    swapped = base64.b64encode(packed[4:] + packed[:4]).decode()
    with pytest.raises(SourceError, match="order"):
        model_from_javascript(f'{head}const llama_merges_binary = "{swapped}"')
    with pytest.raises(SourceError, match="holds no llama_vocab_base64"):
        model_from_javascript("nothing")


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No hub, an empty cache, and a PATH with no client on it."""
    for name, value in {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": "hub",
        "TINYLLAMA_CACHE": "cache",
        "PATH": "bin",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "bin",
    }.items():
        monkeypatch.setenv(name, value if value == "1" else str(tmp_path / value))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def test_llama2_without_hub_and_npm_says_what_is_missing_and_the_way_around(
    recipe: Recipe, offline: Path, tmp_path: Path
) -> None:
    assert offline.is_dir()
    with pytest.raises(SourceError, match=r"npm is not installed.*pip failed on llama-cpp-python.*tokenizer: \{file:"):
        obtain(with_tokenizer(recipe, 32000, builtin="llama2"), tmp_path)


def test_a_vocabulary_in_gguf_has_the_pieces_of_the_one_in_javascript() -> None:
    program = javascript([("b", "c"), ("a", "b")])
    pieces = base64.b64decode(program.split('"')[1]).decode().split("\n")
    assert pieces_of_gguf(gguf(pieces)) == pieces
    with pytest.raises(SourceError, match="does not hold 32000 pieces"):
        pieces_of_gguf(gguf(pieces[:-1]))


def gguf(pieces: list[str]) -> bytes:
    """A part of a GGUF file: the pieces of a vocabulary between other keys."""
    key, spelled = b"tokenizer.ggml.tokens", [piece.encode() for piece in pieces]
    strings = b"".join(struct.pack("<Q", len(piece)) + piece for piece in spelled)
    return b"GGUF before" + key + struct.pack("<IIQ", 9, 8, len(pieces)) + strings + b"after"


def test_llama2_without_hub_and_npm_comes_from_pypi(recipe: Recipe, offline: Path, tmp_path: Path) -> None:
    assert offline.is_dir()
    folder, name = tmp_path / "cache/archives/llama-cpp-python", "llama_cpp_python-0.3.8"
    folder.mkdir(parents=True)
    data = gguf(base64.b64decode(javascript([("a", "b")]).split('"')[1]).decode().split("\n"))
    with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo(f"{name}/vendor/llama.cpp/models/ggml-vocab-llama-spm.gguf")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    digest = sha256((folder / f"{name}.tar.gz").read_bytes()).hexdigest()
    record = {"file": f"{name}.tar.gz", "version": "0.3.8", "sha256": digest}
    (folder / "origin.json").write_text(json.dumps(record))
    with pytest.raises(SourceError, match=r"PyPI llama-cpp-python 0\.3\.8.*'Hello world' gives"):
        obtain(with_tokenizer(recipe, 32000, builtin="llama2"), tmp_path)


def test_llama2_that_does_not_give_known_encodings_is_refused(recipe: Recipe, offline: Path, tmp_path: Path) -> None:
    program = javascript([("a", "b")]).encode()
    with tarfile.open(offline / "package.tgz", "w:gz") as tar:
        info = tarfile.TarInfo("package/llama-tokenizer.js")
        info.size = len(program)
        tar.addfile(info, io.BytesIO(program))
    npm = offline / "npm"
    npm.write_text(f"#!{sys.executable}\nimport shutil\nshutil.copy({str(offline / 'package.tgz')!r}, '.')\n")
    npm.chmod(0o755)
    with pytest.raises(SourceError, match="'Hello world' gives"):
        obtain(with_tokenizer(recipe, 32000, builtin="llama2"), tmp_path)
    assert not (tmp_path / "tokenizer").exists()
