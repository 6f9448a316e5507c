"""Text is exact: what is counted, trained on and scored is the file's text, whatever the tokenizer's file says."""

import json
import unicodedata
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from tests.field.conftest import RECIPE, Run

pytestmark = pytest.mark.field

FROM_FILE = RECIPE.replace("train: {vocab_size: 300}", "file: tok/tokenizer.json")


def _byte_level(folder: Path, **settings: object) -> Tokenizer:
    """A byte-level BPE of 300 ids, trained on the family's texts and saved in tok/."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([path.read_text() for path in sorted((folder / "text").iterdir())], trainer)
    for name, value in settings.items():
        setattr(tokenizer, name, value)
    (folder / "tok").mkdir(exist_ok=True)
    (folder / "tok/tokenizer_config.json").write_text('{"eos_token": "<eos>"}')
    tokenizer.save(str(folder / "tok/tokenizer.json"))
    (folder / "field.yaml").write_text(FROM_FILE)
    return tokenizer


def _tokens(folder: Path) -> int:
    manifest = json.loads((folder / "runs/field/corpora/prose/manifest.json").read_text())
    return sum(split["tokens"] for split in manifest["splits"].values())


def _expected(tokenizer: Tokenizer, folder: Path) -> int:
    texts = [path.read_bytes().decode() for path in (folder / "text").iterdir()]
    return sum(2 + len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts)


@pytest.mark.parametrize("left", ["truncation", "padding", "dropout"])
def test_what_a_training_script_left_in_a_tokenizer_json_does_not_change_texts(
    left: str, field: Path, tinyllama: Run
) -> None:
    tokenizer = _byte_level(field)
    expected = _expected(tokenizer, field)
    if left == "truncation":
        tokenizer.enable_truncation(8)
    elif left == "padding":
        tokenizer.enable_padding(length=5000)
    saved = json.loads(tokenizer.to_str())
    if left == "dropout":
        saved["model"]["dropout"] = 0.5
    (field / "tok/tokenizer.json").write_text(json.dumps(saved))
    tinyllama("prepare", "field.yaml").succeeded()
    assert _tokens(field) == expected


@pytest.mark.parametrize(
    ("normalizer", "text"),
    [
        (normalizers.NFC(), "\u1112\u1161\u11ab\u1100\u1173\u11af is written so. "),
        (normalizers.Lowercase(), "The RIVER Runs. "),
        (normalizers.NFKC(), "Five \ufb01sh \u2460. "),
    ],
    ids=["NFC", "lowercase", "NFKC"],
)
def test_a_tokenizer_that_normalizes_text_is_told_once_with_a_count_and_its_corpus_verifies(
    normalizer: normalizers.Normalizer, text: str, field: Path, tinyllama: Run
) -> None:
    for number in range(3):
        (field / f"text/n{number}.txt").write_bytes((text * 40).encode())
    for path in (field / "text").glob("?[0-9].txt"):
        if path.name[0] != "n":
            path.write_text(path.read_text().lower())
    _byte_level(field, normalizer=normalizer)
    said = tinyllama("prepare", "field.yaml")
    said.succeeded()
    assert said.err.count("does not spell back 3 of 27 documents") == 1
    tinyllama("corpus", "verify", "runs/field/corpora/prose").succeeded()


def test_bits_per_byte_of_a_corpus_count_the_bytes_of_its_text(field: Path, tinyllama: Run) -> None:
    for path in (field / "text").glob("?[02468].txt"):
        path.write_bytes(("\u1112\u1161\u11ab\u1100\u1173\u11af is written so. " * 40).encode())
    _byte_level(field, normalizer=normalizers.NFC())
    tinyllama("train", "field.yaml", "--variant", "base").succeeded()
    (field / "nfc.txt").write_bytes(("\ud55c\uae00 is written so. " * 40).encode())
    (field / "nfd.txt").write_bytes((field / "text/00.txt").read_bytes())
    texts = [word for name in ("nfc.txt", "nfd.txt", "runs/field/corpora/prose") for word in ("--text", name)]
    found = tinyllama("evaluate", "runs/field/base", "--tasks", "arithmetic", *texts, "--json").succeeded()
    bits = _find_bits(json.loads(found), "nfc.txt")
    sizes = {name: (field / name).stat().st_size for name in ("nfc.txt", "nfd.txt")}
    assert bits["nfc.txt"] * sizes["nfc.txt"] == pytest.approx(bits["nfd.txt"] * sizes["nfd.txt"])
    assert bits["runs/field/corpora/prose"] > 0


@pytest.mark.parametrize("rule", ["space before a text", "added token", "quotes"])
def test_a_tokenizer_that_changes_spaces_or_some_characters_is_told_and_its_corpus_reads(
    rule: str, field: Path, tinyllama: Run
) -> None:
    (field / "text/n.txt").write_text("The ``river'' runs <tag> to the sea. " * 40)
    settings: dict[str, object] = {}
    if rule == "space before a text":  # the library's own default
        settings["pre_tokenizer"] = pre_tokenizers.ByteLevel(add_prefix_space=True)
    elif rule == "quotes":
        settings["normalizer"] = normalizers.Replace("``", '"')
    tokenizer = _byte_level(field, **settings)
    if rule == "added token":
        tokenizer.add_tokens([AddedToken("<tag>", lstrip=True, rstrip=True, normalized=False)])
        tokenizer.save(str(field / "tok/tokenizer.json"))
        (field / "field.yaml").write_text(FROM_FILE.replace("300", "301"))
    said = tinyllama("prepare", "field.yaml")
    said.succeeded()
    count = 25 if rule == "space before a text" else 1
    assert said.err.count(f"does not spell back {count} of 25 documents") == 1
    tinyllama("corpus", "verify", "runs/field/corpora/prose").succeeded()
    assert "river" in tinyllama("corpus", "inspect", "runs/field/corpora/prose", "--origin", "n.txt").succeeded()


@pytest.mark.parametrize("character", ["\u2585", "\u2581", "\0", "\t"])
def test_no_line_is_left_out_when_a_tokenizer_is_trained(character: str, field: Path, tinyllama: Run) -> None:
    for path in (field / "text").iterdir():
        path.write_text("".join(f"zebra crossing {character} zebra\n" for _ in range(20)) + path.read_text())
    (field / "field.yaml").write_text(RECIPE.replace("300", "340"))
    tinyllama("tokenizer", "train", "field.yaml", "--out", "tok").succeeded()
    vocabulary = json.loads((field / "tok/tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    assert "z" in vocabulary


def test_the_reason_why_nothing_is_learned_from_is_told(field: Path, tinyllama: Run) -> None:
    for path in (field / "text").iterdir():
        path.write_bytes(path.read_text().encode("utf-16"))
    assert "UTF-16" in tinyllama("tokenizer", "train", "field.yaml", "--out", "tok").refused()


def test_what_a_tokenizer_did_not_learn_from_is_listed(field: Path, tinyllama: Run) -> None:
    (field / "text/00.txt").write_bytes(b"caf\xe9")
    (field / "text/01.txt").write_bytes(b"  \n")
    said = tinyllama("tokenizer", "train", "field.yaml", "--out", "tok")
    said.succeeded()
    assert "00.txt: not valid UTF-8 (byte 3)" in said.err
    assert "01.txt: empty" in said.err


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("text".encode("utf-16"), "UTF-16"),
        (b"caf\xe9 is a place", "not valid UTF-8 (byte 3)"),
        (b"\xef\xbb\xbf \r\n", "empty"),
        ("The river".encode("utf-16-le"), "NUL"),
    ],
    ids=["UTF-16", "Latin-1", "empty", "UTF-16 without a mark"],
)
def test_a_text_that_no_corpus_would_hold_is_refused_before_a_model_is_looked_for(
    data: bytes, reason: str, field: Path, tinyllama: Run
) -> None:
    (field / "a.txt").write_bytes(data)
    refusal = tinyllama("evaluate", "no-model", "--tasks", "arithmetic", "--text", "a.txt").refused()
    assert "--text a.txt: " in refusal
    assert reason in refusal
    assert refusal.count("\n") == 1


def test_a_source_whose_name_has_a_separator_of_lines_is_compared_again(field: Path, tinyllama: Run) -> None:
    (field / "text/a\u2028b\x85.txt").write_text("The river runs. " * 20, encoding="utf-8")
    for _ in range(2):
        tinyllama("prepare", "field.yaml").succeeded()


def test_questions_are_found_however_their_accents_are_composed(field: Path, tinyllama: Run) -> None:
    words = "le caf\u00e9 o\u00f9 la rivi\u00e8re d\u00e9borde est d\u00e9j\u00e0 ferm\u00e9 depuis le printemps"
    passage = f"{words}, {words}"
    (field / "text/n.txt").write_text(unicodedata.normalize("NFD", passage), encoding="utf-8")
    tinyllama("prepare", "field.yaml").succeeded()
    row = {"passage": passage, "question": "is it", "label": 1}
    (field / "boolq_validation.jsonl").write_text(json.dumps(row))
    found = tinyllama("contaminated", "runs/field/corpora/prose", "--tasks", "boolq", "--data", ".", "--json")
    assert json.loads(found.succeeded())["tasks"]["boolq"]["contaminated"] == 1


def test_a_text_is_measured_with_its_own_line_ends_and_without_its_mark(field: Path, tinyllama: Run) -> None:
    tinyllama("train", "field.yaml", "--variant", "base").succeeded()
    lines = "The river runs.\nTo the sea.\n" * 20
    texts = {
        "lf": lines.encode(),
        "marked": b"\xef\xbb\xbf" + lines.encode(),
        "crlf": lines.replace("\n", "\r\n").encode(),
        "cr": lines.replace("\n", "\r").encode(),
        "separators": lines.replace("\n", "\u2028\x85\0").encode(),
    }
    for name, data in texts.items():
        (field / f"{name}.txt").write_bytes(data)
    options = [word for name in texts for word in ("--text", f"{name}.txt")]
    found = tinyllama("evaluate", "runs/field/base", "--tasks", "arithmetic", *options, "--json").succeeded()
    bits = {Path(name).stem: value for name, value in _find_bits(json.loads(found), "lf.txt").items()}
    assert bits["lf"] == bits["marked"]
    assert len(set(bits.values())) == 4


def _find_bits(value: object, name: str) -> dict[str, float]:
    """Bits per byte by file, of which one has this name, wherever the record has them."""
    if isinstance(value, dict):
        if name in value:
            return value
        for inner in value.values():
            if found := _find_bits(inner, name):
                return found
    return {}
