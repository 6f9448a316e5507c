"""What is in a corpus: statistics, random documents, and the difference of two preparations."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tinyllama.corpus.contents.difference import corpus_difference
from tinyllama.corpus.contents.sampling import sample_texts
from tinyllama.corpus.contents.statistics import corpus_statistics
from tinyllama.corpus.manifest import SPLITS, PreparedCorpus
from tinyllama.corpus.reading import read_texts
from tinyllama.prepare.prepare import prepare_corpus
from tinyllama.prepare.tokenizer import obtain_tokenizer
from tinyllama.recipe import Recipe, load_recipe
from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer

TEXTS = [f"Text number {n} of the corpus, which has words." for n in range(30)]


def load(*keys: str) -> Recipe:
    corpus = "{size: 1K, license: none, sources: [{files: 'texts/*.jsonl'}], held_out: {share: 30%}}"
    sizes = ["tokenizer.train.vocab_size=400", "model.vocab_size=400", "tokenizer.train.corpora=[arithmetic]"]
    return load_recipe("nano", [f"corpora.prose={corpus}", *sizes, *keys])


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> SentencePieceTokenizer:
    return obtain_tokenizer(load(), tmp_path_factory.mktemp("tokenizer"), Path(), lambda _: None)


def prepare(
    root: Path, name: str, tokenizer: SentencePieceTokenizer, texts: dict[str, Sequence[str]], *keys: str
) -> PreparedCorpus:
    shutil.rmtree(root / "texts", ignore_errors=True)
    (root / "texts").mkdir()
    for file, lines in texts.items():
        (root / f"texts/{file}.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    return prepare_corpus(load(*keys), "prose", tokenizer, root / name, root)


def test_statistics_count_what_is_there(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> None:
    russian = "Это было давно, и никто уже не помнит, как звали того человека."
    corpus = prepare(tmp_path, "corpus", tokenizer, {"a": TEXTS, "b": [TEXTS[3], russian, TEXTS[3]]})
    found = corpus_statistics(corpus, tokenizer, sample=1000, top=1)
    every = [text for split in SPLITS for text in read_texts(corpus, tokenizer, split)]
    assert (found.documents, found.bytes, found.sampled) == (33, sum(text.bytes for text in every), 33)
    assert (found.repeated, found.repeated_bytes) == (2, 2 * len(TEXTS[3]))
    assert found.scripts == {
        "LATIN": 1 - len(russian.encode()) / found.bytes, "CYRILLIC": len(russian.encode()) / found.bytes
    }  # fmt: skip
    assert [(origin.name, origin.documents) for origin in found.origins] == [("texts/a.jsonl", 30)]
    assert found.different_origins == 2
    lengths = sorted(2 + len(ids) for ids in tokenizer.encode([text.text for text in every]))
    assert (found.lengths["0%"], found.lengths["50%"], found.lengths["100%"]) == (lengths[0], lengths[16], lengths[-1])
    assert sum(lengths) == found.tokens
    pytest.importorskip("py3langid", reason="the extra quality")
    assert found.languages is not None
    assert list(found.languages) == ["en", "ru"]


def test_a_sample_holds_different_documents_and_the_seed_decides_which(
    tokenizer: SentencePieceTokenizer, tmp_path: Path
) -> None:
    corpus = prepare(tmp_path, "corpus", tokenizer, {"a": TEXTS})
    chosen = sample_texts(corpus, tokenizer, 7, 1)
    assert sample_texts(corpus, tokenizer, 7, 1) == chosen
    assert sample_texts(corpus, tokenizer, 7, 2) != chosen
    assert len({text.origin for text in chosen}) == 7
    every = [text for split in SPLITS for text in read_texts(corpus, tokenizer, split)]
    assert sample_texts(corpus, tokenizer, 100, 1) == every
    assert set(chosen) < set(every)
    assert {text.origin for seed in range(60) for text in sample_texts(corpus, tokenizer, 3, seed)} == {
        text.origin for text in every
    }


@pytest.mark.parametrize("compares", ["ids", "texts"])
def test_a_difference_tells_documents_that_stayed_from_those_that_did_not(
    tokenizer: SentencePieceTokenizer, tmp_path: Path, compares: str
) -> None:
    before = prepare(tmp_path, "before", tokenizer, {"a": TEXTS[:20], "b": TEXTS[20:25]})
    changed = [*TEXTS[:5], "Another text.", *TEXTS[6:20]]
    after = prepare(tmp_path, "after", tokenizer, {"a": changed, "c": TEXTS[20:24]}, "corpora.prose.cut=500")
    found = corpus_difference(before, after, (tokenizer, tokenizer) if compares == "texts" else None, 3)
    assert {kind: tally.documents for kind, tally in found.tallies.items()} == {
        "kept": 19, "moved": 4, "changed": 1, "removed": 1, "added": 0,
    }  # fmt: skip
    assert found.changed.named == ["texts/a.jsonl:6"]
    assert found.removed.named == ["texts/b.jsonl:5"]
    assert set(found.moved.named) < {f"texts/c.jsonl:{n}" for n in range(1, 5)}
    assert found.keys == {"cut": (None, 500)}
    assert not found.is_empty
    assert corpus_difference(before, before, None, 3).is_empty


def test_each_copy_of_a_document_has_a_partner_of_its_own(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> None:
    before = prepare(tmp_path, "before", tokenizer, {"a": TEXTS[:9] + TEXTS[:1] * 3})
    after = prepare(tmp_path, "after", tokenizer, {"a": TEXTS[:9] + TEXTS[:1]})
    found = corpus_difference(before, after, None, 3)
    assert (found.kept.documents, found.removed.documents, found.added.documents) == (10, 2, 0)
