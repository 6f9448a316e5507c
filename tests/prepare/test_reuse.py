"""`prepare --reuse`: another family's tokenizer and corpora are linked where they are the same, and only there."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.command import run
from tests.conftest import SMALL
from tinyllama.corpus.manifest import open_corpus
from tinyllama.family import Family
from tinyllama.layout import FamilyLayout
from tinyllama.prepare.changes import is_of_same_text
from tinyllama.prepare.prepare import PrepareOptions
from tinyllama.prepare.reuse import link_corpus, reuse_tokenizer
from tinyllama.recipe import load_recipe
from tinyllama.tokenizer.opening import open_tokenizer

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Prepare = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def prepare(tmp_path: Path) -> Prepare:
    """Prepare `nano` in a folder, its prose from files, with more arguments."""
    for number in range(3):
        (tmp_path / f"text-{number}.txt").write_text(f"This is the text of file {number}, which says little. " * 400)

    def prepare(folder: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        held_out = {"share": "10%", "by": "block", "block": 4}
        prose = {"sources": [{"files": "text-*.txt"}], "cut": 400, "held_out": held_out}
        tokenizer = "tokenizer.train.corpora=[code, arithmetic]"  # which stays when the prose changes
        settings = (*SMALL, tokenizer, *(f"corpora.prose.{key}={json.dumps(value)}" for key, value in prose.items()))
        changes = [part for setting in settings for part in ("--set", setting)]
        return run("prepare", "nano", *changes, "--run", folder, *arguments, cwd=tmp_path)

    assert prepare("one").returncode == 0
    return prepare


def linked(tmp_path: Path, name: str) -> bool:
    """Whether a corpus of the second family consists of files of the first."""
    one, two = (FamilyLayout(tmp_path / family).corpus(name) for family in ("one", "two"))
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in two.iterdir())
    assert (one / "manifest.json").read_bytes() == (two / "manifest.json").read_bytes()
    return all((one / file).samefile(two / file) for file in names)


def test_what_is_the_same_is_linked_and_what_changed_is_prepared(prepare: Prepare, tmp_path: Path) -> None:
    done = prepare("two", "--reuse", "one", "--set", "optimizer.learning_rate.peak=1e-3")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("whose files are linked") == 5, done.stderr
    assert all(linked(tmp_path, name) for name in ("prose", "code", "arithmetic", "chinese"))
    assert prepare("two").returncode == 0
    assert linked(tmp_path, "prose"), "nothing is prepared again"

    path = tmp_path / "text-1.txt"
    stamp = path.stat().st_mtime
    path.write_text(path.read_text().replace("little", "nought"))  # as many bytes
    os.utime(path, (stamp, stamp))
    done = prepare("three", "--reuse", "one", "--set", "corpora.code.held_out.share=15%")
    assert done.returncode == 0, done.stderr
    assert "corpus arithmetic: the same as" in done.stderr
    for name in ("prose", "code"):
        assert f"corpus {name}: the same as" not in done.stderr
    manifests = [(FamilyLayout(tmp_path / family).corpus("prose") / "manifest.json") for family in ("one", "three")]
    assert manifests[0].read_bytes() != manifests[1].read_bytes()


def test_a_damaged_corpus_is_not_reused_and_a_folder_without_corpora_is_refused(
    prepare: Prepare, tmp_path: Path
) -> None:
    shard = next(FamilyLayout(tmp_path / "one").corpus("code").glob("*.bin"))
    data = bytearray(shard.read_bytes())
    data[5] ^= 1
    shard.write_bytes(data)
    done = prepare("two", "--reuse", "one")
    assert done.returncode != 0
    assert f"{shard.relative_to(tmp_path)}: is damaged, so the corpus cannot be reused" in done.stderr
    assert prepare("two").returncode == 0
    (tmp_path / "empty").mkdir()
    refused = prepare("three", "--reuse", "empty")
    assert refused.returncode == 2
    assert "empty: holds no prepared corpora to reuse" in refused.stderr


HELD_OUT = "{share: 10%, by: block, block: 4}"
TRAINED_ON_PROSE = load_recipe(
    "nano",
    [
        *("tokenizer.train={vocab_size: 300, corpora: [prose]}", "model.vocab_size=300", *SMALL),
        *("corpora.prose.sources=[{files: text/*.txt}]", "corpora.prose.cut=400", f"corpora.prose.held_out={HELD_OUT}"),
        *(f"corpora.{other}.sources=[{{builtin: arithmetic, limit: 20K}}]" for other in ("code", "chinese")),
    ],
)


def write_project(root: Path, words: str) -> Path:
    """A folder with `text/a.txt`, where the recipe's relative paths start."""
    (root / "text").mkdir(parents=True)
    write_text(root, words)
    return root


def write_text(root: Path, words: str) -> None:
    (root / "text/a.txt").write_text("".join(f"{words}, said {number} times. " for number in range(3000)))


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three projects, of which `a` and `same` have the same text; the family of `a` is prepared."""
    folder = tmp_path_factory.mktemp("projects")
    for name, words in (("a", "alpha beta gamma"), ("same", "alpha beta gamma"), ("other", "uno dos tres")):
        write_project(folder / name, words)
    Family(TRAINED_ON_PROSE, folder / "a/family", root=folder / "a").prepare()
    return folder


def reuses(root: Path, family: Path, target: Path) -> bool:
    return reuse_tokenizer(TRAINED_ON_PROSE, target, FamilyLayout(family), root)


def test_a_tokenizer_is_linked_only_if_training_on_the_text_here_gives_it(projects: Path, tmp_path: Path) -> None:
    theirs = projects / "a/family"
    assert not reuses(projects / "other", theirs, tmp_path / "tokenizer")
    options = PrepareOptions(reuse=theirs)
    sha256 = {
        name: Family(TRAINED_ON_PROSE, tmp_path / name, root=projects / name).prepare(options).tokenizer.sha256
        for name in ("same", "other")
    }
    assert sha256["same"] == open_tokenizer(theirs / "tokenizer").sha256 != sha256["other"]
    file = "tokenizer/tokenizer.model"
    assert (tmp_path / "same" / file).samefile(theirs / file)


def test_a_tokenizer_whose_text_is_unknown_is_not_linked(projects: Path, tmp_path: Path) -> None:
    shutil.copytree(projects / "a/family", tmp_path / "family")
    shutil.rmtree(tmp_path / "family/corpora/prose")
    assert not reuses(projects / "same", tmp_path / "family", tmp_path / "tokenizer")


def test_a_tokenizer_is_not_linked_if_the_text_changed_after_it_was_trained(tmp_path: Path) -> None:
    root = write_project(tmp_path, "alpha beta gamma")
    Family(TRAINED_ON_PROSE, tmp_path / "family", root=root).prepare()
    write_text(root, "uno dos tres")
    Family(TRAINED_ON_PROSE, tmp_path / "family", root=root).prepare()  # which keeps the tokenizer
    assert not reuses(root, tmp_path / "family", tmp_path / "tokenizer")


def test_only_the_files_of_a_tokenizer_are_linked(projects: Path, tmp_path: Path) -> None:
    shutil.copytree(projects / "a/family", tmp_path / "family")
    theirs = tmp_path / "family/tokenizer"
    (theirs / "notes").mkdir()
    (theirs / "mine.txt").write_text("mine")
    (theirs / "tokenizer.model").rename(tmp_path / "moved.model")
    (theirs / "tokenizer.model").symlink_to("../../moved.model")
    assert reuses(projects / "same", tmp_path / "family", tmp_path / "deep/er/tokenizer")
    ours = tmp_path / "deep/er/tokenizer"
    assert sorted(path.name for path in ours.iterdir()) == ["origin.json", "tokenizer.json", "tokenizer.model"]
    assert not (ours / "tokenizer.model").is_symlink()
    assert open_tokenizer(ours).sha256 == open_tokenizer(theirs).sha256


def test_a_tokenizer_that_is_not_trained_is_made_as_usual(projects: Path, tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    shutil.copy(projects / "a/family/tokenizer/tokenizer.model", tmp_path / "text/tokenizer.model")
    recipe = TRAINED_ON_PROSE.model_copy(
        update={"tokenizer": load_recipe("nano", ["tokenizer={file: text/tokenizer.model}"]).tokenizer}
    )
    template = tmp_path / "text/chat_template.jinja"
    shutil.copytree(projects / "same/text", tmp_path / "text", dirs_exist_ok=True)
    template.write_text("{% for m in messages %}OLD{{ m['content'] }}{% endfor %}")
    Family(recipe, tmp_path / "one", root=tmp_path).prepare()
    template.write_text("{% for m in messages %}NEW{{ m['content'] }}{% endfor %}")
    Family(recipe, tmp_path / "two", root=tmp_path).prepare(PrepareOptions(reuse=tmp_path / "one"))
    assert "NEW" in (tmp_path / "two/tokenizer/chat_template.jinja").read_text()


def test_a_corpus_of_symbolic_links_is_linked_as_files(prepared: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(prepared / "corpora/code", tmp_path / "moved")
    (tmp_path / "code").mkdir()
    for file in moved.iterdir():
        (tmp_path / "code" / file.name).symlink_to(f"../moved/{file.name}")
    found = link_corpus(open_corpus(tmp_path / "code"), tmp_path / "deep/er/code")
    assert not [path for path in found.folder.iterdir() if path.is_symlink()]
    shutil.rmtree(tmp_path / "code")
    assert open_corpus(found.folder).sha256 == found.sha256


def test_a_large_file_that_was_edited_is_not_the_same_even_if_its_time_was_set_back(tmp_path: Path) -> None:
    root = write_project(tmp_path, "alpha beta gamma")
    path, settings = root / "text/a.txt", TRAINED_ON_PROSE.corpora["prose"]
    path.write_text("".join(f"alpha beta gamma, said {number:06} times. " for number in range(70_000)))
    assert path.stat().st_size > 2 << 20
    os.utime(path, (0, 0))
    corpus = Family(TRAINED_ON_PROSE, tmp_path / "family", root=root).prepare().corpora["prose"]
    later = path.stat().st_ctime + 60
    os.utime(corpus.folder / "files.jsonl", (later, later))  # as if it had been prepared a minute after the last edit
    assert is_of_same_text(corpus, settings, root)
    os.utime(corpus.folder / "files.jsonl", (later - 120, later - 120))  # and now a minute before
    assert not is_of_same_text(corpus, settings, root), "only its ends are compared"
