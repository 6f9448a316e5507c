"""The demo's family followed its plan, and `inspect --find` agrees with a walk of the plan: `make audit-demo`."""

from __future__ import annotations

import json
import os
import re
from bisect import bisect_left
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.fidelity.test_inspect import walked
from tinyllama.cli.commands import app
from tinyllama.corpus.documents import DocumentIndex
from tinyllama.corpus.manifest import HELD_OUT, SPLITS, TRAIN
from tinyllama.corpus.reading import PreparedText, read_texts
from tinyllama.family import Family
from tinyllama.fidelity import OpenRun, open_runs
from tinyllama.recipe import load_recipe

if TYPE_CHECKING:
    from tinyllama.corpus.manifest import PreparedCorpus

pytestmark = pytest.mark.slow

HELD_IN, NEVER_SEEN = 200, 50
SENTENCE = re.compile(
    r"[^\s.!?\u3002\uff01\uff1f\ufffd][^\n.!?\u3002\uff01\uff1f\ufffd]{15,200}[.!?\u3002\uff01\uff1f]"
)
Rows = set[tuple[str, int]]
Documents = list[tuple["PreparedCorpus", PreparedText]]


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that MINI names, or one in which the family is trained."""
    if given := os.environ.get("MINI"):
        return Path(given)
    folder = tmp_path_factory.mktemp("demo") / "mini"
    Family(load_recipe("mini"), folder).train()
    return folder


def test_the_audit_passes_on_all_models(mini: Path) -> None:
    done = CliRunner().invoke(app, ["audit", str(mini), "--json"])
    assert done.exit_code == 0, done.output
    models = json.loads(done.stdout)["models"]
    assert set(models) == set(load_recipe("mini").models)
    for model, found in models.items():
        passed = {one["check"] for one in found if one["result"] == "pass"}
        assert passed >= {"steps", "tokens", "shares", "rows", "chain"}, model


def test_sentences_are_found_at_the_steps_of_a_walk_and_held_out_ones_never(mini: Path) -> None:
    runs = open_runs(mini)
    walks = {run.model: walked(run) for run in runs}
    corpora = {corpus.folder: corpus for run in runs for corpus in run.corpora.values()}.values()
    documents: Documents = [
        (corpus, text)
        for corpus in corpora
        for split in SPLITS
        for text in read_texts(corpus, runs[0].tokenizer, split)
    ]
    seen, held_out = sentences(documents, TRAIN, HELD_IN), sentences(documents, HELD_OUT, NEVER_SEEN)
    arguments = [word for text in (*seen, *held_out) for word in ("--find", text)]
    done = CliRunner().invoke(app, ["inspect", str(mini), *arguments, "--json"])
    assert done.exit_code == 0, done.output
    found: dict[str, Rows] = defaultdict(set)
    unseen = set[str]()
    for one in json.loads(done.stdout):
        if one["row"] is None:
            assert (one["split"], one["steps"]) == (HELD_OUT, {})
            unseen.add(one["text"])
            continue
        row = one["corpus"], one["row"]
        assert one["steps"] == {model: walk.get(row, []) for model, walk in walks.items()}
        assert (one["skipped"], one["later"]) == ({}, {}), "a finished family without spikes"
        found[one["text"]].add(row)
    assert unseen >= held_out
    expected = {text: rows_with(documents, runs[0], text) for text in (*seen, *held_out)}
    assert found == {text: rows for text, rows in expected.items() if rows}
    assert set(found) >= seen


def sentences(documents: Documents, split: str, number: int) -> set[str]:
    """Random sentences of random documents of a split."""
    dice, own = np.random.default_rng(22), [text.text for _, text in documents if text.split == split]
    chosen = set[str]()
    for _ in range(100 * number):
        if len(chosen) < number and (found := SENTENCE.findall(own[dice.integers(len(own))])):
            chosen.add(found[dice.integers(len(found))])
    assert len(chosen) == number
    return chosen


def rows_with(documents: Documents, run: OpenRun, text: str) -> Rows:
    """The training rows that predict a token of a text, from the whole characters that the tokens before it spell."""
    rows: Rows = set()
    for corpus, document in documents:
        if document.split != TRAIN or text not in document.text:
            continue
        (entry,) = DocumentIndex(corpus, TRAIN).overlapping(document.start, document.start + 1)
        ids = corpus.stream(TRAIN).read(entry.start, entry.tokens).tolist()
        special = {corpus.manifest.bos_id, corpus.manifest.eos_id}

        def spelled(tokens: int, ids: list[int] = ids, special: set[int] = special) -> int:
            decoded = run.tokenizer.decode([token for token in ids[:tokens] if token not in special])
            return len(decoded.rstrip("\ufffd"))  # bytes of a character that is not whole

        for place in re.finditer(re.escape(text), document.text):
            first, last = (bisect_left(range(len(ids)), at, key=spelled) for at in place.span())
            first -= spelled(first) > place.start()  # its token also spells what is before the text
            for partition, context in run.recipe.partitions(corpus.name).items():
                among = {(target - 1) // context for target in range(entry.start + first, entry.start + last) if target}
                rows |= {(partition, row) for row in among if row < len(corpus.rows(TRAIN, context))}
    return rows
