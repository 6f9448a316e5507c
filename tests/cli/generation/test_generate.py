"""Continuing prompts, as a person does it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from typer.testing import CliRunner

from tests.train.test_import_start import foreign_folder, with_tokenizer
from tinyllama.cli.commands import app
from tinyllama.formats.open import open_model
from tinyllama.inference import Sampling, decode_batch

if TYPE_CHECKING:
    from click.testing import Result

GREEDY = ["--temperature", "0", "--max-new-tokens", "12"]


@pytest.fixture(scope="module")
def model(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_tokenizer(foreign_folder(tmp_path_factory.mktemp("model") / "model"), prepared)


def generate(model: Path, *arguments: str, said: str | bytes = "") -> Result:
    return CliRunner().invoke(app, ["generate", str(model), *arguments], input=said)


def test_prompts_side_by_side_give_the_texts_that_each_gives_alone(model: Path) -> None:
    prompts = ["the", "def add(x, y"]
    done = generate(model, *prompts, *GREEDY, "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert [entry["prompt"] for entry in told] == prompts
    alone = [generate(model, prompt, *GREEDY).stdout for prompt in prompts]
    assert alone == [f"{entry['prompt']}{entry['text']}\n" for entry in told]
    assert generate(model, *prompts, *GREEDY).stdout == "\n".join(alone)


def test_a_text_ends_before_its_stop_string_in_either_precision(model: Path) -> None:
    (told,) = json.loads(generate(model, "the", *GREEDY, "--json", "--precision", "bf16").stdout)
    stop = told["text"][3:5]
    done = generate(model, "the", *GREEDY, "--precision", "bf16", "--stop", stop)
    assert done.stdout == f"the{told['text'].split(stop)[0]}\n"


def test_an_empty_stop_string_is_refused(model: Path) -> None:
    done = generate(model, "the", "--stop", "")
    assert "--stop is empty" in str(done.exception)


def test_any_end_that_the_model_names_ends_a_text(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "model"
    shutil.copytree(model, other)
    source = open_model(model)
    tokenizer, prompt = source.tokenizer(), source.tokenizer().encode_prompt("the")
    greedy = decode_batch(source.load(), [prompt], Sampling(temperature=0), end_ids=(), max_new_tokens=12, seed=0)
    new = [token for (token,) in greedy]
    (other / "generation_config.json").write_text(json.dumps({"eos_token_id": [tokenizer.eos_id, new[3], 10**6, -1]}))
    (ended,) = json.loads(generate(other, "the", *GREEDY, "--json").stdout)
    text = tokenizer.decode([*prompt, *new[: new.index(new[3])]])
    assert ended["text"] == text.removeprefix("the")


def test_sampling_options_default_to_those_that_the_model_states(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "model"
    shutil.copytree(model, other)
    stated = {"do_sample": True, "temperature": 0.5, "top_k": 3, "top_p": None}
    (other / "generation_config.json").write_text(json.dumps(stated))
    asked = generate(model, "the", "--temperature", "0.5", "--top-k", "3").stdout
    assert generate(other, "the").stdout == asked
    assert generate(model, "the").stdout != asked
    assert generate(model, "the").stdout == generate(model, "the", "--repetition-penalty", "1").stdout


def test_prompts_come_from_arguments_stdin_and_files_without_their_last_line_break(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"def add(x\r\n")
    (tmp_path / "b.txt").write_bytes(b"a\n\n")
    files = ["--file", str(tmp_path / "a.txt"), "--file", str(tmp_path / "b.txt")]
    done = generate(model, "the", "-", *files, *GREEDY, "--json", said=b"x\xff\n")
    told = json.loads(done.stdout)
    assert [entry["prompt"] for entry in told] == ["the", "x\ufffd", "def add(x", "a\n"]
    assert told[2:] == json.loads(generate(model, *files, *GREEDY, "--json").stdout)
    assert generate(model, "-", *GREEDY, said="the").stdout == generate(model, "the", *GREEDY).stdout


def test_no_prompt_is_refused_with_the_ways_to_give_one(model: Path) -> None:
    assert "there is no prompt; give a text, - for stdin, or --file FILE" in str(generate(model).exception)


def test_each_prompt_gets_as_many_texts_as_asked_for(model: Path) -> None:
    told = json.loads(generate(model, "the", "def", "--n", "3", "--max-new-tokens", "8", "--json").stdout)
    assert [entry["prompt"] for entry in told] == ["the"] * 3 + ["def"] * 3
    assert len({entry["text"] for entry in told[:3]}) == 3
    shown = generate(model, "the", "def", "--n", "3", "--max-new-tokens", "8").stdout
    assert shown == "\n".join(f"{entry['prompt']}{entry['text']}\n" for entry in told)


@pytest.mark.parametrize("stop", [[], ["--stop", "t"]])
def test_logprobs_are_those_of_the_model_whatever_the_sampling(model: Path, stop: list[str]) -> None:
    options = ["--temperature", "0.3", "--top-k", "5", "--n", "2", "--max-new-tokens", "40", *stop]
    told = json.loads(generate(model, "the", "def", *options, "--logprobs", "3", "--json").stdout)
    assert [entry["text"] for entry in told] == [
        entry["text"] for entry in json.loads(generate(model, "the", "def", *options, "--json").stdout)
    ]
    source = open_model(model)
    tokenizer, weights = source.tokenizer(), source.load()
    for entry in told:
        prompt, new = tokenizer.encode_prompt(entry["prompt"]), [token["id"] for token in entry["tokens"]]
        text = tokenizer.decode([*prompt, *new]).removeprefix(entry["prompt"])
        assert entry["text"] == (text.split("t")[0] if stop else text)
        before_last = tokenizer.decode([*prompt, *new[:-1]]).removeprefix(entry["prompt"])
        assert not stop or "t" not in before_last, "no token after the stop string"
        with torch.inference_mode():
            expected = weights(torch.tensor([[*prompt, *new]]))[0, len(prompt) - 1 : -1].log_softmax(-1)
        for token, row in zip(entry["tokens"], expected, strict=True):
            assert token["logprob"] == pytest.approx(row[token["id"]].item(), abs=1e-4)
            assert [other["id"] for other in token["top"]] == row.topk(3).indices.tolist()
            assert token["token"] == tokenizer.piece(token["id"])


def test_logprobs_stand_in_a_table_after_the_text(model: Path) -> None:
    (told,) = json.loads(generate(model, "the", *GREEDY, "--logprobs", "2", "--json").stdout)
    rows = [
        "\t".join(f"{part['logprob']:.4f} {part['token']}" for part in (token, *token["top"]))
        for token in told["tokens"]
    ]
    assert generate(model, "the", *GREEDY, "--logprobs", "2").stdout == "\n".join([f"the{told['text']}", *rows, ""])


def test_a_bad_word_is_not_written(model: Path) -> None:
    tokenizer = open_model(model).tokenizer()

    def words(*options: str) -> list[str]:
        (told,) = json.loads(generate(model, "the", *GREEDY, "--logprobs", "0", "--json", *options).stdout)
        return [tokenizer.decode([token["id"]]).strip() for token in told["tokens"]]

    bad = [word for word in words() if word.isascii() and word.isalpha()]
    assert bad
    assert not set(words(*(option for word in bad for option in ("--bad-word", word)))) & set(bad)
    assert "bad word is empty" in str(generate(model, "the", "--bad-word", "").exception)


def test_sampling_options_reach_the_sampler(model: Path) -> None:
    whole = ["--max-new-tokens", "40"]
    plain = generate(model, "the", *whole).stdout
    for option in (["--min-p", "0.9"], ["--typical-p", "0.1"], ["--no-repeat-ngram-size", "1"]):
        assert generate(model, "the", *whole, *option).stdout != plain


def test_a_text_that_fills_the_context_says_so(model: Path) -> None:
    done = generate(model, "the", "def", "--max-new-tokens", "500")
    context = open_model(model).shape.context
    notes = [
        f"note: the text of prompt {row} ends here because it fills the model's context of {context} tokens"
        for row in (1, 2)
    ]
    assert set(done.stderr.splitlines()) <= set(notes)
    assert done.stderr
    assert not generate(model, "the", *GREEDY).stderr


def test_a_large_model_on_a_cpu_offers_llama_cpp_by_a_command_that_works(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "llama.cpp" not in generate(model, "the", *GREEDY, "--device", "cpu").stderr
    monkeypatch.setattr("tinyllama.cli.generation.options._SLOW", 1)
    offered = generate(model, "the", *GREEDY, "--device", "cpu").stderr.split("`")[1]
    exported = CliRunner().invoke(app, offered.split()[1:])
    assert exported.exit_code == 0, exported.output
    (file,) = Path(exported.stdout.strip()).glob("*.gguf")
    assert f"`tinyllama serve {file}`" in generate(file, "the", *GREEDY, "--device", "cpu").stderr
