"""A small family of files, and the command to run on it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import command_server
from tests.field.commands import Commands, Outcome

RECIPE = """\
name: field
description: A few documents
license: apache-2.0
model: {layers: 1, width: 8, ffn: 16, heads: 2, kv_heads: 1, context: 32, vocab_size: 300}
tokenizer:
  train: {vocab_size: 300}
corpora:
  prose:
    sources: [{files: "text/*.txt"}]
    size: 2K
    held_out: {share: 20%}
    license: Apache-2.0
base: {prose: 100%}
stages:
  - {name: base, until: 256, batch: 4 sequences}
  - {name: domain, until: 512, batch: 4 sequences, fork: true}
variants:
  plain: {prose: 100%}
optimizer:
  learning_rate: {peak: 0.01, minimum: 0.001, warmup: 128, horizon: 512}
evaluation: {every: 512, rows: 1}
checkpoints: {every: 512}
logging: {tensorboard: false}
hardware: {micro_batch: 4, threads: 1, compile: false}
"""
"""Four steps of a model of one layer on the texts in text/; tests replace parts of it."""

Run = Callable[..., Outcome]


def edit(field: Path, old: str, new: str) -> int:
    """Replace a part of field.yaml once; returns the line on which what replaced it ends."""
    path = field / "field.yaml"
    before, found, after = path.read_text(encoding="utf-8").partition(old)
    assert found
    path.write_text(before + new + after, encoding="utf-8")
    return (before + new.rstrip("\n")).count("\n") + 1


@pytest.fixture(scope="session")
def commands() -> Commands:
    """The server of commands."""
    return command_server()


@pytest.fixture
def tinyllama(commands: Commands, tmp_path: Path) -> Run:
    """Run a command in a folder of the test's own: `tinyllama("plan", "field.yaml")`."""

    def run(*argv: str | Path, **options: object) -> Outcome:
        return commands.run(*argv, cwd=tmp_path, **options)  # type: ignore[arg-type]

    return run


@pytest.fixture
def field(tmp_path: Path) -> Path:
    """A folder with field.yaml and its texts: 24 files of 60 sentences."""
    text = tmp_path / "text"
    text.mkdir()
    for number in range(24):
        sentences = (f"The river number {number * 60 + line} runs to the sea of {line % 7}." for line in range(60))
        (text / f"{number:02}.txt").write_text("\n".join(sentences), encoding="utf-8")
    (tmp_path / "field.yaml").write_text(RECIPE, encoding="utf-8")
    return tmp_path
