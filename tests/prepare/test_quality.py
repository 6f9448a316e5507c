"""Filters, masked addresses, questions of tasks and copies of documents: each dropped document has its reason."""

import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.prepare.test_workers import contents, start
from tinyllama.corpus.manifest import SPLITS, PreparedCorpus, QualityEntry
from tinyllama.corpus.reading import read_texts
from tinyllama.corpus.verification import find_damage
from tinyllama.prepare.prepare import PrepareOptions, prepare_corpus
from tinyllama.prepare.tokenizer import obtain_tokenizer
from tinyllama.recipe import Recipe, load_recipe
from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer

pytest.importorskip("datatrove", reason="the extra quality")
pytest.importorskip("py3langid", reason="the extra quality")
pytest.importorskip("rensa", reason="the extra quality")

SOURCES = 5
TEXT = (
    "The council of the town met on Tuesday to speak about the bridge that had been closed since the spring. Nobody "
    "knew that the engineers would have a plan with three arches. It was to be built of stone, and the people were "
    "glad to hear of it. They went home with the news. The work is to begin when the snow has gone."
)
QUESTION = "Why did the old keeper of the tower count all the lamps again before the storm came over the sea?"


def load(first: str, second: str = "") -> Recipe:
    sources = ", ".join(f"{{files: texts/{n}.jsonl}}" for n in range(SOURCES))
    common = "size: 1K, license: none, held_out: {share: 30%}"
    return load_recipe(
        "nano",
        [
            f"corpora.prose={{{common}, sources: [{sources}], {first}}}",
            f"corpora.more={{{common}, sources: [{{files: more/*.jsonl}}], {second}}}",
            "tokenizer.train.corpora=[arithmetic]",
            "tokenizer.train.vocab_size=400",
            "model.vocab_size=400",
        ],
    )


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> SentencePieceTokenizer:
    return obtain_tokenizer(load(""), tmp_path_factory.mktemp("tokenizer"), Path(), lambda _: None)


def write(path: Path, texts: Sequence[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")


def write_all(root: Path, texts: Sequence[str]) -> None:
    """Divide texts among the files of the corpus, in order."""
    size = -(-len(texts) // SOURCES)
    for n in range(SOURCES):
        write(root / f"texts/{n}.jsonl", texts[n * size : (n + 1) * size])


def rejected(corpus: PreparedCorpus) -> list[dict[str, Any]]:
    lines = (corpus.folder / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def texts_of(corpus: PreparedCorpus, tokenizer: SentencePieceTokenizer) -> set[str]:
    return {text.text for split in SPLITS for text in read_texts(corpus, tokenizer, split)}


def quality(corpus: PreparedCorpus) -> QualityEntry:
    assert corpus.manifest.quality is not None
    return corpus.manifest.quality


def different(n: int, words: int = 60) -> str:
    dice = random.Random(n)  # noqa: S311  # a test's variety
    return " ".join(f"w{dice.randrange(10**6)}" for _ in range(words))


def test_each_document_that_a_filter_drops_is_quarantined_with_its_reason(
    tokenizer: SentencePieceTokenizer, tmp_path: Path
) -> None:
    german = (
        "Der Rat der Stadt traf sich am Dienstag, um über die Brücke zu sprechen, die seit dem Frühling zu war. " * 4
    )
    texts = [TEXT, "Too short.", german, f"{TEXT} 1234567890" * 9, TEXT + " Again, and again it was said."]
    write_all(tmp_path, texts * 3)
    recipe = load("filters: {min_characters: 100, languages: [en], rules: [gopher], where: characters < 1000}")
    corpus = prepare_corpus(recipe, "prose", tokenizer, tmp_path / "corpus", tmp_path)
    assert {entry["reason"]: entry["kind"] for entry in rejected(corpus)} == dict.fromkeys(
        [
            "dropped by filters.min_characters: the text is shorter",
            "dropped by filters.languages: the language is de",
            "dropped by filters.where: is false",
        ],
        "filtered",
    )
    assert texts_of(corpus, tokenizer) == {texts[0], texts[4]}
    assert corpus.manifest.quarantined == {"filtered": 9}
    assert corpus.manifest.rejected == 9
    assert set(quality(corpus).dropped.values()) == {3}
    assert set(quality(corpus).libraries) == {"datatrove", "py3langid", "regex"}


def test_rules_that_remove_lines_change_the_text_that_is_trained_on(
    tokenizer: SentencePieceTokenizer, tmp_path: Path
) -> None:
    lines = TEXT.replace(". ", ".\n")
    write_all(tmp_path, [f"{lines}\nHome | News | Contact\n{n} days ago it was said." for n in range(10)])
    corpus = prepare_corpus(load("filters: {rules: [c4]}"), "prose", tokenizer, tmp_path / "corpus", tmp_path)
    assert f"{lines}\n7 days ago it was said." in texts_of(corpus, tokenizer)
    assert quality(corpus).shortened == 10
    assert corpus.manifest.rejected == 0


def test_addresses_are_masked_whatever_stood_in_the_documents_before(
    tokenizer: SentencePieceTokenizer, tmp_path: Path
) -> None:
    write_all(tmp_path, [f"{n}: write to {n}@town.org or 8.8.4.{n}, not to 127.0.0.1." for n in range(20)])
    corpus = prepare_corpus(load("pii: mask"), "prose", tokenizer, tmp_path / "corpus", tmp_path)
    masked = "{}: write to email@example.com or 22.214.171.124, not to 127.0.0.1."
    assert texts_of(corpus, tokenizer) == {masked.format(n) for n in range(20)}
    assert quality(corpus).masked == 20


def test_documents_with_questions_are_dropped_and_the_question_is_named(
    tokenizer: SentencePieceTokenizer, tmp_path: Path
) -> None:
    write_all(tmp_path, [different(n) for n in range(20)] + [f"{different(99)} {QUESTION.upper()}"])
    corpus = prepare_corpus(
        load("decontaminate: [piqa]"), "prose", tokenizer, tmp_path / "corpus", tmp_path,
        questions=lambda tasks: {task: ["another", QUESTION] for task in tasks},
    )  # fmt: skip
    (entry,) = rejected(corpus)
    assert (entry["kind"], entry["partner"]) == ("contaminated", "piqa, question 1")
    assert entry["reason"] == "dropped by decontaminate: 13 words of a question of piqa"
    assert sum(split.documents for split in corpus.manifest.splits.values()) == 20
    assert quality(corpus).questions is not None


@pytest.mark.parametrize("method", ["exact", "minhash"])
def test_the_first_copy_is_kept_within_and_across_corpora(
    tokenizer: SentencePieceTokenizer, tmp_path: Path, method: str
) -> None:
    texts = [different(n % 18) for n in range(30)]
    write_all(tmp_path, texts)
    write(tmp_path / "more/a.jsonl", [different(n) for n in range(10, 40)])
    recipe = load(f"cut: 100, deduplicate: {method}", f"deduplicate: {method}")
    first = prepare_corpus(recipe, "prose", tokenizer, tmp_path / "prose", tmp_path)
    assert [entry["partner"] for entry in rejected(first)] == [
        f"prose: texts/{n // 6}.jsonl:{n % 6 + 1}" for n in range(12)
    ]
    assert texts_of(first, tokenizer) >= {text[-100:] for text in texts if len(text) % 100 == 0}
    second = prepare_corpus(recipe, "more", tokenizer, tmp_path / "more-corpus", tmp_path, before=[first])
    assert texts_of(second, tokenizer) == {different(n) for n in range(18, 40)}
    assert {entry["partner"] for entry in rejected(second)} == {
        f"prose: texts/{n // 6}.jsonl:{n % 6 + 1}" for n in range(10, 18)
    }
    assert list(quality(second).dropped.values()) == [8]
    assert quality(second).before == {"prose": first.sha256}
    for corpus in (first, second):
        assert not list(find_damage(corpus, tokenizer))


def near_copy(text: str, share: float) -> str:
    """A text of which `share` of the words at the end differ."""
    words = text.split()
    changed = round(len(words) * share)
    return " ".join(words[: len(words) - changed] + [f"x{word}" for word in words[len(words) - changed :]])


def test_near_copies_are_found_as_often_as_the_bands_predict(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> None:
    recipe = load("deduplicate: minhash")
    copies = recipe.corpora["prose"].deduplicate
    assert copies is not None
    originals, found = [different(n, 104) for n in range(400)], {}
    for share in (0.1, 0.15, 0.2, 0.3):
        root = tmp_path / str(share)
        write_all_in(root, originals + [near_copy(text, share) for text in originals])
        corpus = prepare_corpus(recipe, "prose", tokenizer, root / "corpus", root)
        found[share] = corpus.manifest.rejected / len(originals)
        kept = 100 - round(104 * share)
        expected = copies.finds(kept / (200 - kept))
        assert found[share] == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 400) ** 0.5 + 0.005)
    assert found[0.1] > 0.9
    assert found[0.3] < 0.2


def write_all_in(root: Path, texts: Sequence[str]) -> None:
    root.mkdir()
    write_all(root, texts)


EVERYTHING = (
    "deduplicate: minhash, pii: mask, filters: {where: words > 20, rules: [gopher_repetition]}, decontaminate: [piqa]"
)


def prepare_all(root: Path, folder: str, workers: int) -> PreparedCorpus:
    recipe = load(EVERYTHING)
    tokenizer = obtain_tokenizer(recipe, root / "tokenizer", root, lambda _: None)
    return prepare_corpus(
        recipe, "prose", tokenizer, root / folder, root, options=PrepareOptions(workers),
        questions=lambda tasks: {task: [QUESTION] for task in tasks},
    )  # fmt: skip


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with documents of all kinds, and the corpus that one process makes of them."""
    root = tmp_path_factory.mktemp("mixed")
    dice = random.Random(1)  # noqa: S311  # a test's variety
    texts = []
    for n in range(500):
        text = different(n % 350)
        kind = dice.randrange(10)
        texts.append(
            {0: near_copy(text, 0.1), 1: f"{text} a{n}@b.org", 2: "short", 3: f"{text} {QUESTION}"}.get(kind, text)
        )
    write_all(root, texts)
    corpus = prepare_all(root, "one", 1)
    assert set(corpus.manifest.quarantined) == {"contaminated", "duplicate", "filtered"}
    assert quality(corpus).masked
    return root


@pytest.mark.parametrize("workers", [2, 5])
def test_any_number_of_workers_drops_the_same_documents(mixed: Path, workers: int) -> None:
    prepare_all(mixed, f"by-{workers}", workers)
    assert contents(mixed / f"by-{workers}") == contents(mixed / "one")


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_preparation_drops_the_same_documents(mixed: Path, kills: int) -> None:
    dice, name = random.Random(kills), f"killed-{kills}"  # noqa: S311  # a test's variety
    for _ in range(kills):
        process = start(prepare_all, mixed, name, dice.choice([1, 2, 5]))
        time.sleep(dice.uniform(0.2, 3))
        process.kill()
        process.join()
    process = start(prepare_all, mixed, name, 2)
    process.join()
    assert process.exitcode == 0
    assert contents(mixed / name) == contents(mixed / "one")
