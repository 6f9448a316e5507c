"""Text is exact: what is counted, trained on and scored is the file's text, whatever the tokenizer's file says."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

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
    tinyllama("train", "field.yaml", "--variant", "base").succeeded()
    record = ("evaluate", "runs/field/base", "--tasks", "arithmetic", "--text", "runs/field/corpora/prose", "--json")
    tinyllama(*record).succeeded()


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


def test_a_text_is_measured_with_its_own_line_ends_and_without_its_mark(field: Path, tinyllama: Run) -> None:
    tinyllama("train", "field.yaml", "--variant", "base").succeeded()
    lines = "The river runs.\nTo the sea.\n" * 20
    texts = {
        "lf": lines.encode(),
        "marked": b"\xef\xbb\xbf" + lines.encode(),
        "crlf": lines.replace("\n", "\r\n").encode(),
        "cr": lines.replace("\n", "\r").encode(),
    }
    for name, data in texts.items():
        (field / f"{name}.txt").write_bytes(data)
    options = [word for name in texts for word in ("--text", f"{name}.txt")]
    found = tinyllama("evaluate", "runs/field/base", "--tasks", "arithmetic", *options, "--json").succeeded()
    bits = {Path(name).stem: value for name, value in _find_bits(json.loads(found)).items()}
    assert bits["lf"] == bits["marked"]
    assert len({bits["lf"], bits["crlf"], bits["cr"]}) == 3


def _find_bits(value: object) -> dict[str, float]:
    """Bits per byte by file, wherever the record has them."""
    if isinstance(value, dict):
        if "lf.txt" in value:
            return value
        for inner in value.values():
            if found := _find_bits(inner):
                return found
    return {}
