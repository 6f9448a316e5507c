"""Continuing prompts, as a person does it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.cli.test_app import run
from tests.train.test_import_start import foreign_folder, with_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

GREEDY = ["--temperature", "0", "--max-new-tokens", "12"]


@pytest.fixture(scope="module")
def model(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_tokenizer(foreign_folder(tmp_path_factory.mktemp("model") / "model"), prepared)


def test_prompts_side_by_side_give_the_texts_that_each_gives_alone(model: Path) -> None:
    prompts = ["the", "def add(x, y"]
    done = run("generate", model, *prompts, *GREEDY, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [entry["prompt"] for entry in told] == prompts
    alone = [run("generate", model, prompt, *GREEDY).stdout for prompt in prompts]
    assert alone == [f"{entry['prompt']}{entry['text']}\n" for entry in told]
    assert run("generate", model, *prompts, *GREEDY).stdout == "\n".join(alone)


def test_a_text_ends_before_its_stop_string_in_either_precision(model: Path) -> None:
    (told,) = json.loads(run("generate", model, "the", *GREEDY, "--json", "--precision", "bf16").stdout)
    stop = told["text"][3:5]
    done = run("generate", model, "the", *GREEDY, "--precision", "bf16", "--stop", stop)
    assert done.stdout == f"the{told['text'].split(stop)[0]}\n"


def test_an_empty_stop_string_is_refused(model: Path) -> None:
    done = run("generate", model, "the", "--stop", "")
    assert done.returncode == 2
    assert "--stop is empty" in done.stderr
