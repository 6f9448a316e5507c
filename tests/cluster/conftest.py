"""A family whose corpora one process prepared, to compare those of clusters with."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = 9
CORPUS = (
    "corpora.prose={size: 1K, license: none, held_out: {share: 20%}, sources: ["
    + ", ".join(f"{{files: texts/{n}.jsonl}}" for n in range(SOURCES))
    + "]}"
)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts of nine sources, each damaged in one line, and `one`: what one process makes of them."""
    root = tmp_path_factory.mktemp("root")
    (root / "texts").mkdir()
    dice = random.Random(1)  # noqa: S311  # a test's variety
    words = ["alpha", "beta", "gamma", " ", "\n", "中", "</s>", "12"]
    for source in range(SOURCES):
        lines = [json.dumps({"text": " ".join(dice.choices(words, k=400)) + f" {source} {n}"}) for n in range(150)]
        lines.insert(40, "{broken")
        (root / f"texts/{source}.jsonl").write_text("\n".join(lines))
    process = start(root, dict(os.environ), "one", "--workers", "1")
    assert process.wait() == 0, process.communicate()
    return root


def start(root: Path, environment: dict[str, str], run: str, *options: str) -> subprocess.Popen[str]:
    """Start `tinyllama prepare` in the folder, for a family of its own."""
    command = [sys.executable, "-m", "tinyllama", "prepare", "nano", "--set", CORPUS, "--run", run, *options]
    return subprocess.Popen(
        command, cwd=root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a family's corpora."""
    corpora = folder / "corpora"
    return {str(path.relative_to(corpora)): path.read_bytes() for path in corpora.rglob("*") if path.is_file()}
