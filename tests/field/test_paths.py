"""Paths as people write them, in every place that takes one."""

import os
import threading
from pathlib import Path

import pytest

from tests.field.conftest import RECIPE, Run

NOT_UTF_8 = os.fsdecode(b"caf\xe9")


@pytest.fixture
def pipe(field: Path) -> Path:
    """A recipe that can be read once, as `<(…)` gives it."""
    path = field / "pipe"
    os.mkfifo(path)
    threading.Thread(target=path.write_text, args=(RECIPE,), daemon=True).start()
    return path


@pytest.mark.parametrize("command", [("plan",), ("tokenizer", "train", "--out", "t"), ("prepare",)])
def test_a_recipe_may_come_from_a_pipe(pipe: Path, tinyllama: Run, command: tuple[str, ...]) -> None:
    tinyllama(*command, pipe, seconds=20).succeeded()


def test_a_job_cannot_read_a_pipe_again(pipe: Path, tinyllama: Run) -> None:
    assert "is a pipe" in tinyllama("launch", pipe, "--gpus-per-node", "0", seconds=20).refused()


def test_options_and_keys_expand_the_home_and_variables(field: Path, tinyllama: Run) -> None:
    home = {"HOME": str(field / "home"), "RUNS": "runs [new]"}
    (field / "home").mkdir()
    (field / "home/field.yaml").write_text(RECIPE, encoding="utf-8")
    tinyllama("tokenizer", "train", "~/field.yaml", "--out", "~/trained", env=home).succeeded()
    tokenizer = "tokenizer={file: $HOME/trained/tokenizer.model}"
    tinyllama("prepare", "~/field.yaml", "--run=$RUNS/x", "--set", tokenizer, env=home).succeeded()
    tinyllama("corpus", "verify", "${RUNS}/x/corpora/prose", env=home).succeeded()
    assert not (field / "~").exists()
    assert (field / "runs [new]/x/corpora/prose/manifest.json").is_file()


def test_a_name_that_exists_is_taken_as_it_is_spelled(field: Path, tinyllama: Run) -> None:
    (field / "field.yaml").rename(field / "$RUNS.yaml")
    tinyllama("plan", "$RUNS.yaml", env={"RUNS": "other"}).succeeded()


@pytest.mark.parametrize("command", ["prepare", "train"])
@pytest.mark.usefixtures("field")
def test_a_family_folder_that_is_not_utf_8_is_refused_at_once(tinyllama: Run, command: str) -> None:
    assert "the path is not UTF-8" in tinyllama(command, "field.yaml", "--run", NOT_UTF_8).refused()
    assert not Path(NOT_UTF_8).exists()


def test_a_corpus_and_a_table_are_read_and_written_under_such_a_name(field: Path, tinyllama: Run) -> None:
    tinyllama("prepare", "field.yaml").succeeded()
    (field / "runs").rename(field / NOT_UTF_8)
    corpus = f"{NOT_UTF_8}/field/corpora/prose"
    printed = {"PYTHONIOENCODING": "utf-8:surrogateescape"}  # these commands print the name
    tinyllama("corpus", "verify", corpus, env=printed).succeeded()
    tinyllama("corpus", "export", corpus, "--out", "exported", env=printed).succeeded()
    table = f"{NOT_UTF_8}.parquet"
    tinyllama("plan", "field.yaml", "--variant", "plain", "--parquet", table, env=printed).succeeded()
    assert (field / f"{NOT_UTF_8}.parquet").is_file()
