"""`tinyllama evaluate` on single models, and `tinyllama contaminated`."""

from __future__ import annotations

import json
import shutil
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from tests.command import run
from tests.evaluation.conftest import CONTEXT, SHAPE, sentence, write_rows
from tests.evaluation.hub_rows import parquet
from tinyllama.cli.commands import app
from tinyllama.errors import EvaluationError, UserError
from tinyllama.evaluation.agreement import choice
from tinyllama.evaluation.answers import read_answers
from tinyllama.evaluation.published import PARAMETERS
from tinyllama.evaluation.record_folder import read_record
from tinyllama.evaluation.record_tables import record_markdown
from tinyllama.evaluation.scores import TaskScores
from tinyllama.family.evaluate_model import EvaluateRequest, evaluate_model

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.evaluation.answers import Answer
    from tinyllama.family.evaluate_model import Evaluated

TASKS = ["hellaswag", "boolq", "winogrande"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with a byte-level BPE that adds no BOS, as others' folders have it."""
    import random

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM

    path = tmp_path_factory.mktemp("foreign")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    rng = random.Random(1)  # noqa: S311  # any text will do
    texts = [sentence(rng, 12) for _ in range(99)]
    trainer = trainers.BpeTrainer(
        vocab_size=SHAPE["vocab_size"], special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(path / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "bos_token": "<|end|>"}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    config = LlamaConfig(
        vocab_size=SHAPE["vocab_size"], hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=4 * CONTEXT, initializer_range=0.3,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(path)
    return path


def asked(data: Path, out: Path, **more: Any) -> EvaluateRequest:  # noqa: ANN401  # fields of EvaluateRequest
    return EvaluateRequest(tasks=TASKS, data=data, out=out, **more)


def answers(evaluated: Evaluated) -> list[Answer]:
    return read_answers(evaluated.folder / "questions.jsonl")


def choices(evaluated: Evaluated) -> list[Any]:
    return [choice(answer) for answer in answers(evaluated)]


def test_a_foreign_folder_is_scored_as_lm_eval_hf_scores_it(folder: Path, data: Path, tmp_path: Path) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    found = answers(evaluate_model(str(folder), asked(data, tmp_path)))
    theirs = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=4)
    requests = [Instance("loglikelihood", {}, tuple(ask), 0) for answer in found for ask in answer.requests]
    ours = [response for answer in found for response in answer.responses]
    for (logp, greedy), (expected, their_greedy) in zip(
        ours, theirs.loglikelihood(requests, disable_tqdm=True), strict=True
    ):
        assert float(logp) == pytest.approx(expected, abs=1e-4)
        assert greedy == their_greedy


def test_the_record_says_what_the_figures_depend_on(folder: Path, data: Path, tmp_path: Path) -> None:
    record, written = evaluate_model(folder, asked(data, tmp_path))
    conditions = record.conditions
    assert conditions is not None
    assert record.source.sha256 is not None
    assert len(record.source.sha256) == len(conditions.tokenizer_sha256) == 64
    assert (record.source.adds_bos, conditions.dtype, conditions.limit) == (False, "fp32", None)
    assert conditions.versions["lm_eval"].startswith("0.4")
    score = record.scores.measured["boolq"]
    assert (score.metric, score.shots, score.questions) == ("acc", 0, 4)
    assert score.version
    assert score.bootstrap_stderr is not None
    assert json.loads((written / "record.json").read_text())["tasks"] == record.scores.to_json()
    assert read_record(written) == replace(record, scores=TaskScores(record.scores.tasks))
    assert "| difference |" not in (written / "scores.md").read_text()
    large = record_markdown(replace(record, source=replace(record.source, parameters=PARAMETERS)))
    assert "| difference |" in large
    assert "published as 52.99; the row's own scores average 52.97" in large
    assert (written / "scores.csv").read_text().startswith("model,task,metric,score,stderr")


def test_choices_are_the_same_in_other_batches_and_after_an_interruption(
    folder: Path, data: Path, tmp_path: Path
) -> None:
    whole = evaluate_model(str(folder), asked(data, tmp_path / "whole"))
    single = evaluate_model(str(folder), asked(data, tmp_path / "single", rows=1))
    part = evaluate_model(str(folder), asked(data, tmp_path / "part", limit=2))
    journal = part.folder / "journal.jsonl"
    journal.write_text(journal.read_text()[:-20])  # a crash cut the last line short
    kept = len(journal.read_text().splitlines())
    resumed = evaluate_model(str(folder), asked(data, tmp_path / "part"))
    assert kept > 2
    assert choices(whole) == choices(single) == choices(resumed)


def test_the_record_of_bf16_states_how_it_differs_from_fp32(folder: Path, data: Path, tmp_path: Path) -> None:
    alone = evaluate_model(str(folder), asked(data, tmp_path, dtype="bf16"))
    assert alone.record.against_fp32 is None
    assert "evaluate without --precision first" in (alone.folder / "scores.md").read_text()

    fine = evaluate_model(str(folder), asked(data, tmp_path))
    coarse = evaluate_model(str(folder), asked(data, tmp_path, dtype="bf16"))
    assert fine.folder != coarse.folder
    assert fine.record.against_fp32 is None
    stated = coarse.record.against_fp32
    assert stated is not None
    assert list(stated) == TASKS
    pairs = list(zip(answers(fine), answers(coarse), strict=True))
    differences: dict[str, float] = dict.fromkeys(TASKS, 0.0)
    for one, other in pairs:
        for (left, _), (right, _) in zip(one.responses, other.responses, strict=True):
            differences[one.task] = max(differences[one.task], abs(float(left) - float(right)))
            assert float(right) == pytest.approx(float(left), rel=0.05, abs=1)
    for task in TASKS:
        assert stated[task].questions == 4
        assert 0 < stated[task].largest_difference == pytest.approx(differences[task])
        named = [one.question for one, other in pairs if one.task == task and choice(one) != choice(other)]
        assert stated[task].other_choices == named
    assert "| against fp32 | questions | other choices |" in (coarse.folder / "scores.md").read_text()


def test_a_tokenizer_that_is_not_the_models_is_refused(folder: Path, data: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["surplus"] = SHAPE["vocab_size"]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(EvaluationError, match="341 ids, but the model 340 embeddings"):
        evaluate_model(str(other), asked(data, tmp_path))


def test_bits_per_byte_of_a_text_are_the_same_in_a_file_in_records_and_in_a_folder(
    folder: Path, data: Path, tmp_path: Path
) -> None:
    text = "the cat sat on a mat, and 猫 ran. " * 20
    texts = [tmp_path / name for name in ("text.txt", "records.jsonl", "table.parquet", "folder")]
    texts[0].write_text(text, encoding="utf-8")
    texts[1].write_text(json.dumps({"text": text}), encoding="utf-8")
    texts[2].write_bytes(parquet([{"text": text}]))
    texts[3].mkdir()
    (texts[3] / "readme.md").write_text(text, encoding="utf-8")
    wanted = EvaluateRequest(tasks=["boolq"], data=data, out=tmp_path, limit=1, texts=texts)
    bits = evaluate_model(folder, wanted).record.bits_per_byte
    assert bits is not None
    assert bits.window == bits.stride == 4 * CONTEXT
    assert list(bits.values) == list(map(str, texts))
    (value,) = set(bits.values.values())
    assert 0 < value < 40


def test_the_command_prints_the_table_and_goes_on_past_a_task_without_data(
    folder: Path, data: Path, tmp_path: Path
) -> None:
    done = run("evaluate", folder, "--tasks", "boolq,gsm8k", "--data", data, "--limit", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "none from the hub: HF_HUB_OFFLINE is set" in done.stdout.replace("\n", "")
    assert list((tmp_path / "evaluations").iterdir())


def test_a_hub_that_does_not_answer_is_said_within_five_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tinyllama.errors import ModelError
    from tinyllama.hub import fetch_model

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("HF_HOME", str(tmp_path))
        monkeypatch.setattr("tinyllama.hub._DEADLINE", 0.5)
        with pytest.raises(ModelError, match=r"the hub cannot give it.* did not answer within 0\.5 seconds"):
            fetch_model("nobody/nothing")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/nowhere"], "no model is here"),
        (["x", "--batch", "many"], "--batch is 'many'"),
        (["nano", "--limit", "5"], "cannot use --limit with recipes"),
        (["x", "--tasks", "helaswag"], "did you mean 'hellaswag'"),
    ],
)
def test_a_mistake_is_said_without_a_traceback(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = run("evaluate", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--tasks", "boolq"], ["--limit", "2"], ["--batch", "4"], ["--precision", "fp32"], ["--text", "x"],
        ["--run-code"], ["--samples", "1"], ["--out", "x"],
    ],
    ids="".join,
)  # fmt: skip
def test_an_option_of_single_models_is_refused_for_a_recipe(options: list[str]) -> None:
    refused = CliRunner().invoke(app, ["evaluate", "nano", *options]).exception
    assert isinstance(refused, UserError)
    assert str(refused).startswith(f"cannot use {options[0]} with recipes, only with single models")
    assert "evaluation.tasks" in str(refused)


@pytest.mark.parametrize("options", [["--set", "seed=2"], ["--run", "x"]], ids="".join)
def test_an_option_of_recipes_is_refused_for_a_single_model(options: list[str]) -> None:
    refused = CliRunner().invoke(app, ["evaluate", "model", *options]).exception
    assert isinstance(refused, UserError)
    assert str(refused) == f"cannot use {options[0]} with single models, only with recipes"


def test_contaminated_names_the_documents(prepared: Path, tmp_path: Path) -> None:
    from tinyllama.corpus.manifest import TRAIN, open_corpus
    from tinyllama.corpus.reading import read_texts
    from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer

    corpus = open_corpus(prepared / "corpora" / "prose")
    texts = list(read_texts(corpus, SentencePieceTokenizer(prepared / "tokenizer/tokenizer.model"), TRAIN))
    document = next(text for text in texts if len(text.text.split()) > 60)
    row = {"passage": " ".join(document.text.split()[:40]), "question": "is it", "label": 1}
    clean = row | {"passage": " ".join(f"word{i}" for i in range(40))}
    (tmp_path / "boolq_validation.jsonl").write_text("\n".join(map(json.dumps, [clean, row])))
    done = run("contaminated", corpus.folder, "--tasks", "boolq,piqa", "--data", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    tasks = json.loads(done.stdout)["tasks"]
    assert tasks["boolq"]["contaminated"] == 1
    assert document.origin in tasks["boolq"]["documents"]["1"]["prose"]
    assert "HF_HUB_OFFLINE is set" in tasks["piqa"]["reason"]


def test_a_command_that_measures_nothing_fails_with_the_reason(folder: Path, tmp_path: Path) -> None:
    asked = ["evaluate", str(folder), "--tasks", "boolq", "--data", str(tmp_path / "none"), "--out", str(tmp_path)]
    refused = CliRunner().invoke(app, asked).exception
    assert isinstance(refused, EvaluationError)
    assert str(refused).startswith("nothing was measured: no score for boolq: ")
