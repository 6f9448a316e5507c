"""`prepare --reuse`: another family's tokenizer and corpora are linked where they are the same, and only there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import SMALL
from tinyllama.layout import FamilyLayout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Prepare = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def prepare(tmp_path: Path) -> Prepare:
    """Prepare `nano` in a folder, its prose from files, with more arguments."""
    for number in range(3):
        (tmp_path / f"text-{number}.txt").write_text(f"This is the text of file {number}, which says little. " * 400)

    def run(folder: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        held_out = {"share": "10%", "by": "block", "block": 4}
        prose = {"sources": [{"files": "text-*.txt"}], "cut": 400, "held_out": held_out}
        settings = (*SMALL, *(f"corpora.prose.{key}={json.dumps(value)}" for key, value in prose.items()))
        changes = [part for setting in settings for part in ("--set", setting)]
        command = [sys.executable, "-m", "tinyllama", "prepare", "nano", *changes, "--run", folder, *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert run("one").returncode == 0
    return run


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
