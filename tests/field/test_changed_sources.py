"""Text that changes after its corpus was prepared, before and after a model was trained on it."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.field.conftest import Run

pytestmark = pytest.mark.field

NEW = "The mountain is high above the valley, and the snow on it is white."


def prepare(tinyllama: Run, *arguments: str) -> tuple[dict[str, Any], str]:
    """Counts of the corpora, and the messages."""
    outcome = tinyllama("prepare", "field.yaml", "--json", *arguments)
    return json.loads(outcome.succeeded()), outcome.err


def add(field: Path) -> str:
    (field / "text/new.txt").write_text(NEW, encoding="utf-8")
    return "1 file added (text/new.txt)"


def append(field: Path) -> str:
    with (field / "text/03.txt").open("a", encoding="utf-8") as file:
        file.write(NEW)
    return "1 file edited (text/03.txt)"


def edit_in_place(field: Path) -> str:
    """The same number of bytes, as an editor or `sed` would write them."""
    path = field / "text/03.txt"
    path.write_text(path.read_text(encoding="utf-8").replace("river", "creek"), encoding="utf-8")
    return "1 file edited (text/03.txt)"


def replace_with_an_old_file(field: Path) -> str:
    """A file with the same number of bytes and an early time comes in its place."""
    path, other = field / "text/03.txt", field / "other.txt"
    other.write_text(path.read_text(encoding="utf-8").replace("river", "creek"), encoding="utf-8")
    os.utime(other, (1, 1))
    other.replace(path)
    return "1 file edited (text/03.txt)"


def remove(field: Path) -> str:
    (field / "text/03.txt").unlink()
    return "1 file removed (text/03.txt)"


@pytest.mark.parametrize("change", [add, append, edit_in_place, replace_with_an_old_file, remove])
def test_a_changed_source_is_prepared_again_with_a_line_that_says_what_changed(
    field: Path, tinyllama: Run, change: Callable[[Path], str]
) -> None:
    first, said = prepare(tinyllama)
    assert "since it was prepared" not in said
    assert f"corpus prose: {(changed := change(field))} since it was prepared" in (second := prepare(tinyllama))[1]
    assert second[0]["prose"]["sha256"] != first["prose"]["sha256"], changed
    third, said = prepare(tinyllama)
    assert third == second[0]
    assert "since it was prepared" not in said


def test_sources_that_are_touched_or_gone_change_nothing(field: Path, tinyllama: Run) -> None:
    first, _ = prepare(tinyllama)
    for path in (field / "text").iterdir():
        path.touch()
    assert prepare(tinyllama)[0] == first
    shutil.rmtree(field / "text")
    second, said = prepare(tinyllama)
    assert second == first
    assert "since it was prepared" not in said


def test_a_corpus_that_a_model_was_trained_on_is_kept_and_a_new_one_is_made_beside_it(
    field: Path, tinyllama: Run
) -> None:
    shutil.copytree(field / "text", field / "more")
    more = "corpora.more={sources: [{files: more}], size: 2K, held_out: {share: 20%}, license: none}"
    recipe = ("field.yaml", "--set", more, "--set", "tokenizer.train.corpora=[prose]")
    tinyllama("train", *recipe, "--variant", "base").succeeded()
    corpora = field / "runs/field/corpora"
    before = (corpora / "prose/manifest.json").read_bytes()

    add(field)
    (field / "more/new.txt").write_text(NEW, encoding="utf-8")
    kept = tinyllama("prepare", *recipe)
    kept.succeeded()
    assert "corpus prose: 1 file added (text/new.txt) since it was prepared; it is kept" in kept.err
    assert "corpus more: 1 file added (more/new.txt) since it was prepared; it is prepared again" in kept.err

    refreshed = tinyllama("train", *recipe, "--variant", "base", "--refresh-corpora")
    refreshed.succeeded()
    assert "prepared anew in runs/field/corpora/prose@2" in refreshed.err
    assert "base: already trained" in refreshed.err, "a run stays with the corpus that its checkpoints name"
    assert (corpora / "prose/manifest.json").read_bytes() == before
    tinyllama("corpus", "verify", "runs/field/corpora/prose@2").succeeded()

    forked = tinyllama("train", *recipe)
    forked.succeeded()
    assert "plain: its checkpoints were trained on runs/field/corpora/prose" in forked.err
    assert trained_on(field, "plain") == trained_on(field, "base")

    for model in ("base", "plain"):
        shutil.rmtree(field / "runs/field" / model)
    tinyllama("train", *recipe, "--variant", "base").succeeded()
    counts = json.loads(tinyllama("corpus", "inspect", "runs/field/corpora/prose@2", "--json").succeeded())
    assert trained_on(field, "base") == counts["sha256"], "what is trained anew gets the newest"


def trained_on(field: Path, model: str) -> str:
    """The identity of the corpus that a model's last checkpoint names."""
    states = (field / "runs/field" / model / "checkpoints").glob("step-*/state.json")
    last = max(states, key=lambda path: int(path.parent.name.removeprefix("step-")))
    return re.findall(r'"corpora\.prose": *"(\w+)"', last.read_text(encoding="utf-8"))[0]


def test_another_key_of_a_trained_corpus_makes_one_beside_it(field: Path, tinyllama: Run) -> None:
    tinyllama("train", "field.yaml", "--variant", "base").succeeded()
    manifest = field / "runs/field/corpora/prose/manifest.json"
    before = manifest.read_bytes()
    cut = ("--set", "corpora.prose.cut=200")
    assert "corpora.prose" in tinyllama("train", "field.yaml", *cut).refused()
    assert manifest.read_bytes() == before
    tinyllama("train", "field.yaml").succeeded()
