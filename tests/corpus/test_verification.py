import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from tests.prepare.test_prepare import FIELDS
from tinyllama.corpus.manifest import PreparedCorpus, open_corpus, write_manifest
from tinyllama.corpus.reading import find_texts
from tinyllama.corpus.verification import find_damage
from tinyllama.files import sha256_file
from tinyllama.prepare.prepare import prepare_corpus
from tinyllama.prepare.tokenizer import obtain_tokenizer
from tinyllama.recipe import load_recipe
from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer

Damage = Callable[[np.ndarray], None]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    lines = [json.dumps({"text": f"Document {n}: </s> stays text; ▁ is a space. {'word ' * n}"}) for n in range(60)]
    (root / "texts").mkdir()
    (root / "texts/a.jsonl").write_text("\n".join(lines))
    settings = ["tokenizer.train.corpora=[arithmetic]", "tokenizer.train.vocab_size=400", "model.vocab_size=400"]
    recipe = load_recipe("nano", [FIELDS, *settings])
    tokenizer = obtain_tokenizer(recipe, root / "tokenizer", root, lambda _: None)
    prepare_corpus(recipe, "prose", tokenizer, root / "corpora" / "prose", root)
    return root


@pytest.fixture
def tokenizer(root: Path) -> SentencePieceTokenizer:
    return SentencePieceTokenizer(root / "tokenizer/tokenizer.model")


@pytest.fixture
def corpus(root: Path, tmp_path: Path) -> PreparedCorpus:
    """A copy to damage."""
    (tmp_path / "prose").mkdir()
    for path in (root / "corpora/prose").iterdir():
        (tmp_path / "prose" / path.name).write_bytes(path.read_bytes())
    return open_corpus(tmp_path / "prose")


def damage(corpus: PreparedCorpus, change: Damage) -> PreparedCorpus:
    """Change ids as a broken preparation would: the hashes agree."""
    file = corpus.folder / "train-00000.bin"
    ids = np.fromfile(file, "<u2")
    change(ids)
    file.write_bytes(ids.tobytes())
    entry = corpus.manifest.files[file.name].model_copy(update={"sha256": sha256_file(file)})
    files = corpus.manifest.files | {file.name: entry}
    write_manifest(corpus.folder, corpus.manifest.model_copy(update={"files": files}))
    return open_corpus(corpus.folder)


@pytest.mark.parametrize("samples", [None, 3, 10**9])
def test_a_good_corpus_has_no_findings(
    corpus: PreparedCorpus, tokenizer: SentencePieceTokenizer, samples: int | None
) -> None:
    assert list(find_damage(corpus, tokenizer, samples)) == []


def test_bit_rot_is_found_by_the_hash(corpus: PreparedCorpus, tokenizer: SentencePieceTokenizer) -> None:
    file = corpus.folder / "train.documents.parquet"
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 1
    file.write_bytes(data)
    findings = list(find_damage(corpus, tokenizer))
    assert ("train.documents.parquet", "its SHA-256 differs from the manifest's") in findings


def _outside(ids: np.ndarray) -> None:
    ids[5] = 400


def _run_of_specials(ids: np.ndarray) -> None:
    ids[5:9] = 2


def _no_eos(ids: np.ndarray) -> None:
    ids[np.flatnonzero(ids == 2)[3]] = 370


def _other_text(ids: np.ndarray) -> None:
    ids[1:4] = 370


@pytest.mark.parametrize("samples", [None, 2, 10**9])
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_outside, "1 ids are outside the vocabulary of 400"),
        (_run_of_specials, "EOS is missing at an end of a document, or stands inside one, 4 times"),
        (_no_eos, "EOS is missing"),
        (_other_text, "bytes of text"),
    ],
)
def test_wrong_ids_are_found_and_their_document_named(
    corpus: PreparedCorpus, tokenizer: SentencePieceTokenizer, change: Damage, problem: str, samples: int | None
) -> None:
    findings = list(find_damage(damage(corpus, change), tokenizer, samples))
    assert problem in findings[0].problem
    assert findings[0].location.startswith("train: texts/a.jsonl:")


def test_a_foreign_tokenizer_is_found(corpus: PreparedCorpus, root: Path, tmp_path: Path) -> None:
    recipe = load_recipe("nano", ["tokenizer.train.corpora=[chinese]"])
    other = obtain_tokenizer(recipe, tmp_path / "other", root, lambda _: None)
    assert "another tokenizer" in next(find_damage(corpus, other)).problem


def test_an_index_that_skips_a_document_is_found(corpus: PreparedCorpus, tokenizer: SentencePieceTokenizer) -> None:
    file = corpus.folder / "train.documents.parquet"
    parquet.write_table(parquet.read_table(file).slice(0, 20), file)
    problems = [finding.problem for finding in find_damage(corpus, tokenizer)]
    assert any("20 documents, the manifest has" in problem for problem in problems)
    assert any("its documents end at token" in problem for problem in problems)


def test_documents_are_found_by_their_origin(corpus: PreparedCorpus, tokenizer: SentencePieceTokenizer) -> None:
    (text,) = find_texts(corpus, tokenizer, "a.jsonl:17", limit=5)
    assert text.text == f"Document 16: </s> stays text;   is a space. {'word ' * 16}"
    assert len(find_texts(corpus, tokenizer, "a.jsonl", limit=7)) == 7
    assert find_texts(corpus, tokenizer, "b.jsonl", limit=7) == []
