"""After a command that went well, a line on stderr says what to do next; with --json and after an error, none does."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from tests.conftest import SMALL
from tests.ladder.library import made_up
from tinyllama.cli.commands import app
from tinyllama.errors import PreflightError
from tinyllama.ladder.climb import Climbed

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

NO_TASKS = ("--set", "evaluation.tasks=[]")
OF_RECIPES = [
    (("recipes",), ["plan NAME"]),
    (("recipes", "nano"), ["plan nano"]),
    (("plan", "nano", "--variant", "v1.1", "--set", "seed=2"), ["plan nano --check --variant v1.1 --set seed=2"]),
    (("plan", "nano", "--check", *NO_TASKS), ["reproduce nano --set 'evaluation.tasks=[]'"]),
    (("rehearse", "nano", "--variant", "v1.1", "--run", "there"), ["reproduce nano --run there"]),
    (
        ("size", "--hours", "1.5", "--hardware", "h100", "--gpus", "8", "--over-training", "2"),
        ["new NAME --text TEXT --hours 1.5 --over-training 2 --hardware h100 --gpus 8"],
    ),
    (
        ("ladder", "llama-360m", "--plan", "--hardware", "h100", "--rungs", "3", "--set", "seed=2"),
        ["ladder llama-360m --rungs 3 --set seed=2"],
    ),
]
OF_FAMILIES = [
    (("corpus", "stats", "family/corpora/code"), ["corpus sample family/corpora/code"]),
    (
        ("evaluate", "nano", "--run", "family", "--data", "data", *NO_TASKS),
        ["report nano --data data --run family --set 'evaluation.tasks=[]'"],
    ),
    (("export", "nano", "--run", "family"), ["generate family/exports/base 'Return the'"]),
]


def run(*words: str, fails: type[Exception] | None = None) -> Result:
    result = CliRunner().invoke(app, list(words))
    assert (fails is None and result.exit_code == 0) or isinstance(result.exception, fails or ()), result.output
    return result


def told(result: Result) -> list[str]:
    """The commands that stderr names, of which stdout has none."""
    assert "next: " not in result.stdout
    lines = [line for line in result.stderr.splitlines() if line.startswith("next: ")]
    return [line.removeprefix("next: tinyllama ") for line in lines]


@pytest.mark.parametrize(("words", "expected"), OF_RECIPES, ids=lambda value: " ".join(value[:3]))
def test_commands_about_recipes_say_what_is_next_unless_they_print_json(
    words: tuple[str, ...], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told(run(*words)) == expected
    assert told(run(*words, "--json")) == []


def test_commands_about_families_say_what_is_next(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "family")
    small = [word for override in SMALL for word in ("--set", override)]
    for words, expected in OF_FAMILIES:
        of_recipe = "nano" in words
        found = told(run(*words, *(small if of_recipe else ())))
        assert [line.split(" --set stages")[0] for line in found] == expected
    assert told(run("corpus", "stats", "family/corpora/code", "--json")) == []
    assert told(run("evaluate", "nano", "--run", "family", *NO_TASKS, *small, "--json")) == []
    page = find_spec("starlette") and find_spec("uvicorn")
    assert told(run("report", "nano", "--run", "family", *NO_TASKS, *small)) == (["studio family"] if page else [])


def test_a_finished_ladder_names_its_law_and_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    climbed = Climbed(made_up(), tmp_path / "ladder.html")
    monkeypatch.setattr("tinyllama.ladder.climb", lambda *_: climbed)
    words = ("ladder", "nano", "--variant", "v1.1", "--compute", "1")
    size, train = told(run(*words, "--run", "there"))
    assert size.startswith(f"size --law {tmp_path / 'ladder.json'} --tokens ")
    assert train == "train nano --run there"
    assert told(run(*words, "--json")) == []


def test_a_tokenizer_is_named_as_a_recipe_names_it(tmp_path: Path) -> None:
    (line,) = told(run("tokenizer", "train", "nano", "--vocab-size", "400", "--out", str(tmp_path / "own")))
    file = json.dumps(str(tmp_path / "own/tokenizer.model"))
    assert line == f"plan nano --set model.vocab_size=400 --set 'tokenizer={{file: {file}}}'"


def test_nothing_follows_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lacking = ("--set", "corpora.prose.sources=[{files: nowhere.txt}]")
    assert told(run("plan", "nano", "--check", *lacking, *NO_TASKS, fails=PreflightError)) == []
