"""300 MB of text with planted near-copies: as many are found as the bands predict, and nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.prepare.test_workers import contents
from tinyllama.prepare.prepare import PrepareOptions, prepare_corpus
from tinyllama.prepare.tokenizer import obtain_tokenizer
from tinyllama.quality.signatures import word_runs
from tinyllama.recipe import load_recipe

pytest.importorskip("rensa", reason="the extra quality")

FILES, ORIGINALS, WORDS = 14, 3_500, 550
CHANGED = (0.01, 0.02, 0.03, 0.05, 0.08)
"""Shares of the words of an original that differ in its copies: one copy in five has each."""


def make_texts(root: Path) -> dict[str, float]:
    """Write files of random words, in which every fourth document is a copy; the similarity of each, by its origin."""
    (root / "texts").mkdir()
    dice = np.random.default_rng(1)
    vocabulary = np.array([f"{number:x}word" for number in range(60_000)])
    similarities: dict[str, float] = {}
    for file in range(FILES):
        lines: list[str] = []
        for number in range(ORIGINALS):
            words = dice.choice(vocabulary, WORDS)
            lines.append(" ".join(words))
            if number % 3 == 2:
                changed = dice.random(WORDS) < CHANGED[number // 3 % len(CHANGED)]
                copy = " ".join(np.where(changed, dice.choice(vocabulary, WORDS), words))
                ours, theirs = set(word_runs(lines[-1], 5)), set(word_runs(copy, 5))
                lines.append(copy)
                similarities[f"texts/{file:02d}.jsonl:{len(lines)}"] = len(ours & theirs) / len(ours | theirs)
        text = "".join(json.dumps({"text": line}) + "\n" for line in lines)
        (root / f"texts/{file:02d}.jsonl").write_text(text, encoding="utf-8")
    return similarities


@pytest.mark.slow
def test_copies_in_300_mb_are_found_as_often_as_the_bands_predict(tmp_path: Path) -> None:
    similarities = make_texts(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.glob("texts/*")) > 300e6
    corpus = "{size: 1K, license: none, sources: [{files: texts/*.jsonl}], held_out: {share: 1%}, deduplicate: minhash}"
    recipe = load_recipe(
        "nano",
        [f"corpora.prose={corpus}", "tokenizer.train.corpora=[arithmetic]", "tokenizer.train.vocab_size=400",
         "model.vocab_size=400"],
    )  # fmt: skip
    copies = recipe.corpora["prose"].deduplicate
    assert copies is not None
    tokenizer = obtain_tokenizer(recipe, tmp_path / "tokenizer", tmp_path, lambda _: None)
    for workers in (2, 5):
        folder = tmp_path / f"by-{workers}"
        prepared = prepare_corpus(recipe, "prose", tokenizer, folder, tmp_path, options=PrepareOptions(workers))
    lines = (prepared.folder / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    found = {entry["origin"]: entry["partner"] for entry in map(json.loads, lines)}
    expected = np.array([copies.finds(similarity) for similarity in similarities.values()])
    spread = float(np.sqrt((expected * (1 - expected)).sum()))
    assert found.keys() <= similarities.keys()
    assert abs(len(found) - expected.sum()) < 4 * spread
    for origin, partner in found.items():
        file, _, line = origin.rpartition(":")
        assert partner == f"prose: {file}:{int(line) - 1}"
    assert contents(tmp_path / "by-2") == contents(tmp_path / "by-5")
