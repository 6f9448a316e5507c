"""Continuing prompts, as a person does it."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.cli.test_app import run
from tests.train.test_import_start import foreign_folder, with_tokenizer
from tinyllama.formats.open import open_model
from tinyllama.inference import Sampling, decode_batch

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


def test_any_end_that_the_model_names_ends_a_text(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "model"
    shutil.copytree(model, other)
    source = open_model(model)
    tokenizer, prompt = source.tokenizer(), source.tokenizer().encode_prompt("the")
    greedy = decode_batch(source.load(), [prompt], Sampling(temperature=0), end_ids=(), max_new_tokens=12, seed=0)
    new = [token for (token,) in greedy]
    (other / "generation_config.json").write_text(json.dumps({"eos_token_id": [tokenizer.eos_id, new[3], 10**6, -1]}))
    (ended,) = json.loads(run("generate", other, "the", *GREEDY, "--json").stdout)
    text = tokenizer.decode([*prompt, *new[: new.index(new[3])]])
    assert ended["text"] == text.removeprefix("the")


def test_sampling_options_default_to_those_that_the_model_states(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "model"
    shutil.copytree(model, other)
    stated = {"do_sample": True, "temperature": 0.5, "top_k": 3, "top_p": None}
    (other / "generation_config.json").write_text(json.dumps(stated))
    asked = run("generate", model, "the", "--temperature", "0.5", "--top-k", "3").stdout
    assert run("generate", other, "the").stdout == asked
    assert run("generate", model, "the").stdout != asked
    assert run("generate", model, "the").stdout == run("generate", model, "the", "--repetition-penalty", "1").stdout


def test_a_text_that_fills_the_context_says_so(model: Path) -> None:
    done = run("generate", model, "the", "def", "--max-new-tokens", "500")
    context = open_model(model).shape.context
    notes = [
        f"note: the text of prompt {row} ends here because it fills the model's context of {context} tokens"
        for row in (1, 2)
    ]
    assert set(done.stderr.splitlines()) <= set(notes)
    assert done.stderr
    assert not run("generate", model, "the", *GREEDY).stderr
