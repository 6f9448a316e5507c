"""Text continued by a model that was opened by name, as a Python user does it."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.command import run
from tests.train.test_import_start import foreign_folder, with_tokenizer
from tinyllama import generate
from tinyllama.errors import UserError
from tinyllama.formats.open import open_model
from tinyllama.inference import Sampling, default_sampling

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_tokenizer(foreign_folder(tmp_path_factory.mktemp("model") / "model"), prepared)


def test_a_text_is_the_one_that_the_command_writes(folder: Path) -> None:
    options = {"min_p": 0.01, "typical_p": 0.9, "no_repeat_ngram_size": 1, "bad_words": ["a", "e"]}
    text = generate(folder, "the", max_new_tokens=12, seed=5, **options)
    given = [
        "--min-p",
        "0.01",
        "--typical-p",
        "0.9",
        "--no-repeat-ngram-size",
        "1",
        "--bad-word",
        "a",
        "--bad-word",
        "e",
    ]
    done = run("generate", folder, "the", "--max-new-tokens", "12", "--seed", "5", *given)
    assert done.stdout == f"the{text}\n"
    assert text != generate(folder, "the", max_new_tokens=12, seed=5)


def test_every_setting_that_a_model_states_is_its_default(folder: Path, tmp_path: Path) -> None:
    stated = {
        "min_p": 0.1,
        "typical_p": 0.9,
        "no_repeat_ngram_size": 3,
        "bad_words_ids": [[5], [6, 7]],
        "max_length": 9,
    }
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model/generation_config.json").write_text(json.dumps({"do_sample": True} | stated))
    expected = Sampling(min_p=0.1, typical_p=0.9, no_repeat_ngram_size=3, bad_words_ids=((5,), (6, 7)))
    assert default_sampling(open_model(tmp_path / "model")) == expected


def test_an_opened_model_is_loaded_once_and_its_texts_repeat(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_model(folder)
    loads: list[int] = []
    load = model.load
    monkeypatch.setattr(model, "load", lambda: loads.append(1) or load())
    texts = [generate(model, "the", max_new_tokens=12, seed=seed) for seed in (1, 2, 1)]
    assert texts[0] == texts[2] != texts[1]
    assert len(loads) == 1


def test_a_text_ends_before_its_stop_string(folder: Path) -> None:
    text = generate(folder, "the", max_new_tokens=12, temperature=0)
    stop = text[3:5]
    assert generate(folder, "the", max_new_tokens=12, temperature=0, stop=[stop]) == text.split(stop)[0]
    with pytest.raises(UserError, match="stop string is empty"):
        generate(folder, "the", stop=[""])


def test_a_single_stop_string_is_not_split_into_characters(folder: Path) -> None:
    text = generate(folder, "the", max_new_tokens=12, temperature=0)
    assert generate(folder, "the", max_new_tokens=12, temperature=0, stop=text[-1] + "\0") == text


@pytest.mark.parametrize("count", [0, -1])
def test_a_text_of_no_new_tokens_is_refused(folder: Path, count: int) -> None:
    with pytest.raises(UserError, match=f"max_new_tokens is {count}, but must be at least 1"):
        generate(folder, "the", max_new_tokens=count)
