"""The manifest is typed, refuses by file and key, and keeps the identities that commit 4bd9be0 computed."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tinyllama.corpus.manifest import BuiltinEntry, CorpusManifest, open_corpus, read_manifest, write_manifest
from tinyllama.errors import CorpusError, NewerFormatError
from tinyllama.prepare.job import present_corpus
from tinyllama.prepare.prepare import prepare_corpus
from tinyllama.prepare.tokenizer import obtain_tokenizer
from tinyllama.recipe import load_recipe

WRITTEN = Path(__file__).parents[1] / "legacy/family-4bd9be0/runs/legacy/corpora"
IDENTITIES = {
    "prose": "b0fa4a0582ff8c406deca3521ded1cd3272c44b4903348a8463fb3f88c1849c1",
    "sums": "cba185229e21884229778029d08d9c52af5c6447f66b4c18827a232aeb27b2f1",
}
"""Of the corpora in `WRITTEN`, as 4bd9be0 computes them."""
SOURCES = "[{builtin: arithmetic}, {builtin: chinese-phrases, limit: 9000}]"
ARITHMETIC = [
    "tokenizer.train.corpora=[arithmetic]",
    "tokenizer.train.vocab_size=400",
    "model.vocab_size=400",
    f"corpora.arithmetic={{sources: {SOURCES}, size: 1000, cut: 800, held_out: {{share: 5%}}, license: Apache-2.0}}",
]
ARITHMETIC_IDENTITY = "0d225036113de0c2173a7edc4560d9cab880a30d776860530556340985923ace"
"""Of the corpus `arithmetic` of the recipe above, as 4bd9be0 computes it with the libraries below."""
LIBRARIES = {"fastokens": "0.3.5", "pyarrow": "26.0.1", "sentencepiece": "0.2.3"}


@pytest.fixture
def written() -> dict[str, Any]:
    """A manifest of format 1."""
    value: dict[str, Any] = json.loads((WRITTEN / "sums/manifest.json").read_text(encoding="utf-8"))
    return value


def read(folder: Path, value: object) -> CorpusManifest:
    (folder / "manifest.json").write_text(json.dumps(value), encoding="utf-8")
    return read_manifest(folder / "manifest.json")


@pytest.mark.parametrize("name", IDENTITIES)
def test_an_old_corpus_keeps_its_identity_and_so_does_its_manifest_written_anew(name: str, tmp_path: Path) -> None:
    corpus = open_corpus(WRITTEN / name)
    assert corpus.sha256 == IDENTITIES[name]
    write_manifest(tmp_path, corpus.manifest)
    written = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    assert written["format"] == 2
    assert "kept_aside" not in written
    assert read_manifest(tmp_path / "manifest.json") == corpus.manifest


@pytest.mark.skipif(
    any(version(name) != expected for name, expected in LIBRARIES.items()), reason="other files, of other versions"
)
def test_a_corpus_prepared_anew_has_the_identity_that_4bd9be0_gave_it(tmp_path: Path) -> None:
    recipe = load_recipe("nano", ARITHMETIC)
    tokenizer = obtain_tokenizer(recipe, tmp_path / "tokenizer", tmp_path, lambda _: None)
    corpus = prepare_corpus(recipe, "arithmetic", tokenizer, tmp_path / "corpus", tmp_path)
    assert corpus.sha256 == ARITHMETIC_IDENTITY
    assert open_corpus(tmp_path / "corpus").sha256 == ARITHMETIC_IDENTITY


def test_a_builtin_source_of_format_1_is_read(written: dict[str, Any], tmp_path: Path) -> None:
    sources = [{"version": "1", "sha256": "00", "licence": "CC0-1.0"}]
    (entry,) = read(tmp_path, written | {"sources": sources}).sources
    assert entry == BuiltinEntry(version="1", sha256="00", license="CC0-1.0")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bos_id": None}, r"manifest\.json: bos_id: .*integer"),
        ({"corpus": 3}, r"manifest\.json: corpus: .*string"),
        ({"request": {"tokenizer": "", "bos": True}}, r"manifest\.json: request\.eos: is missing"),
        ({"splits": {}}, r"manifest\.json: splits: .*train is missing"),
        ({"files": {"a": {"bytes": 1}}}, r"manifest\.json: files\.a\.sha256: is missing"),
    ],
)
def test_a_wrong_manifest_is_refused_by_file_and_key(
    change: dict[str, Any], message: str, written: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(CorpusError, match=message):
        read(tmp_path, written | change)


def test_a_later_versions_corpus_is_refused_and_not_prepared_again(written: dict[str, Any], tmp_path: Path) -> None:
    request = read(tmp_path, written).request
    (tmp_path / "manifest.json").write_text(json.dumps(written | {"format": 3}))
    with pytest.raises(NewerFormatError, match=r"manifest\.json: format: 3 .*upgrade tinyllama"):
        present_corpus(tmp_path, request)


LATER = {"format", "held_out_documents", "quality", "quarantined"}
"""Keys that earlier versions did not write, or wrote under another name."""


@pytest.mark.parametrize("key", sorted(set(CorpusManifest.model_fields) - LATER | {"kept_aside"}))
def test_a_missing_key_is_refused_by_name(key: str, written: dict[str, Any], tmp_path: Path) -> None:
    del written[key]
    name = "quarantined" if key == "kept_aside" else key
    with pytest.raises(CorpusError, match=rf"manifest\.json: {name}: is missing; prepare the corpus again"):
        read(tmp_path, written)


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_what_is_no_json_object_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(CorpusError, match=r"manifest\.json: .*prepare the corpus again"):
        open_corpus(tmp_path)
