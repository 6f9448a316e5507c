"""The seven tasks, and our model behind lm-eval's interface, against `lm_eval --model hf`."""

from __future__ import annotations

import json
import os
import random
import socket
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
import torch

from tests.evaluation.conftest import CONTEXT, SHAPE, write_rows
from tinyllama.errors import EvaluationError
from tinyllama.evaluation.catalogue import expand_tasks
from tinyllama.evaluation.published import TASKS
from tinyllama.evaluation.scores import EvaluationOptions, MissingTask, TaskScore, TaskScores
from tinyllama.evaluation.tasks import evaluate_tasks
from tinyllama.model import Llama
from tinyllama.recipe import ModelShape

if TYPE_CHECKING:
    from collections.abc import Callable

    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from tinyllama.evaluation.language_model import LlamaLM
    from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer

NAMES = [task.name for task in TASKS]


@pytest.fixture(scope="module")
def scores_of(model: Llama, tokenizer: SentencePieceTokenizer) -> Callable[..., TaskScores]:
    return partial(evaluate_tasks, model, tokenizer)


@pytest.fixture(scope="module")
def language_model(model: Llama, tokenizer: SentencePieceTokenizer) -> LlamaLM:
    from tinyllama.evaluation.language_model import LlamaLM

    return LlamaLM(model, tokenizer)


@pytest.fixture(scope="module")
def hflm(folder: Path) -> HFLM:
    """What `lm_eval --model hf` runs."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=3)


@pytest.fixture(scope="module")
def hf_results(hflm: HFLM, data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The seven tasks by lm-eval alone: its `json` loader, its model."""
    import lm_eval.tasks
    from lm_eval.evaluator import evaluate

    cache = str(tmp_path_factory.mktemp("cache"))
    root = Path(lm_eval.tasks.__file__).parent
    folders = ["arc", "hellaswag", "openbookqa", "piqa", "super_glue/boolq", "winogrande"]
    manager = lm_eval.tasks.TaskManager(include_path=[root / name for name in folders], include_defaults=False)
    members = []
    for name in NAMES:
        (file,) = [path for path in data.iterdir() if path.name.startswith(name)]
        split = file.stem.rsplit("_", 1)[1]
        kwargs = {"data_files": {split: str(file)}, "cache_dir": cache}
        member = {"task": name, "dataset_path": "json", "dataset_name": None, "dataset_kwargs": kwargs}
        members.append(member | {"training_split": None} | ({"validation_split": None} if split == "test" else {}))
    loaded = manager.load({"group": "seven", "task": members})
    return evaluate(hflm, {"tasks": loaded["tasks"]}, log_samples=True)


def request(kind: str, *arguments: object) -> Instance:
    from lm_eval.api.instance import Instance

    return Instance(kind, {}, arguments, 0)


def requests_of(results: dict[str, Any]) -> list[tuple[Instance, Any]]:
    """Every (arguments, response) of a run of lm-eval."""
    found = []
    for samples in results["samples"].values():
        for sample in samples:
            for arguments, responses in zip(sample["arguments"], sample["resps"], strict=True):
                found.append((request("loglikelihood", *arguments), responses[0]))
    return found


def test_log_likelihoods_equal_lm_eval_hf(language_model: LlamaLM, hf_results: dict[str, Any]) -> None:
    requests, expected = zip(*requests_of(hf_results), strict=True)
    scores = language_model.loglikelihood(list(requests))
    assert len(scores) > 80
    for (ours, ours_greedy), (theirs, theirs_greedy) in zip(scores, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)
        assert ours_greedy == theirs_greedy


def test_seven_task_scores_equal_lm_eval_hf(
    scores_of: Callable[..., TaskScores], data: Path, hf_results: dict[str, Any]
) -> None:
    ours = scores_of(["commonsense"], data)
    assert list(ours.tasks) == NAMES
    for task in TASKS:
        theirs = hf_results["results"][task.name]
        score = ours.tasks[task.name]
        assert isinstance(score, TaskScore)
        assert (score.metric, score.questions, score.shots) == (task.metric, 4, 0)
        assert score.score == theirs[f"{task.metric},none"]
        assert score.stderr == theirs[f"{task.metric}_stderr,none"]
        assert score.version == str(hf_results["versions"][task.name])
        theirs_by_question = {sample["doc_id"]: sample for sample in hf_results["samples"][task.name]}
        assert len(ours.answers[task.name]) == len(theirs_by_question)
        for answer in ours.answers[task.name]:
            sample = theirs_by_question[answer.question]
            assert answer.requests == [list(arguments)[:2] for arguments in sample["arguments"]]
            assert answer.scores[task.metric] == sample[task.metric]
    assert ours.average == pytest.approx(sum(s.score for s in ours.tasks.values()) / 7)
    assert json.loads(json.dumps(ours.to_json()))["boolq"]["metric"] == "acc"


def test_rolling_log_likelihood_equals_lm_eval_hf(language_model: LlamaLM, hflm: HFLM) -> None:
    texts = ["the cat", "the cat sat on a mat and ran to town " * 12, "a mat. " * 30]
    requests = [request("loglikelihood_rolling", text) for text in texts]
    assert language_model.loglikelihood_rolling(requests) == pytest.approx(
        hflm.loglikelihood_rolling(requests, disable_tqdm=True), abs=1e-3
    )


def test_greedy_generation_equals_lm_eval_hf(language_model: LlamaLM, hflm: HFLM) -> None:
    settings = {"until": ["t"], "max_gen_toks": 9}
    requests = [
        request("generate_until", text, settings | extra)
        for text in ["the cat sat", "the cat sat on a mat and ran to town " * 12]
        for extra in ({}, {"until": ["\n"]})
    ]
    assert language_model.generate_until(requests) == hflm.generate_until(requests, disable_tqdm=True)


def test_sampling_is_refused(language_model: LlamaLM) -> None:
    sampled = request("generate_until", "the", {"do_sample": True, "temperature": 0.7})
    with pytest.raises(EvaluationError, match="greedily"):
        language_model.generate_until([sampled])


def test_padding_and_company_never_change_a_score(language_model: LlamaLM) -> None:
    rng = random.Random(9)  # noqa: S311  # as above
    requests = [(None, [1, *rng.choices(range(3, 330), k=n)], [7, 8, n + 3]) for n in (1, 40, 5, 17, 30)]
    together = language_model._loglikelihood_tokens(requests)  # noqa: SLF001  # lm-eval's own hook
    alone = [language_model._loglikelihood_tokens([request])[0] for request in requests]  # noqa: SLF001  # as above
    for (one, _), (other, _) in zip(together, alone, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_a_continuation_longer_than_the_context_is_scored_whole(language_model: LlamaLM, model: Llama) -> None:
    targets = [3 + i % 300 for i in range(2 * CONTEXT + 5)]
    ((score, _),) = language_model._loglikelihood_tokens([(None, [1], targets)])  # noqa: SLF001  # lm-eval's own hook
    expected, ids = 0.0, [1, *targets]
    for start in (0, CONTEXT, 2 * CONTEXT):
        stop = min(start + CONTEXT, len(targets))
        window = ids[max(0, stop - CONTEXT) : stop]
        logps = model(torch.tensor([window])).detach().log_softmax(-1)[0, -(stop - start) :]
        expected += sum(float(logp[i]) for logp, i in zip(logps, targets[start:stop], strict=True))
    assert score == pytest.approx(expected, abs=1e-3)


def test_bos_begins_every_text_unless_training_had_none(model: Llama, tokenizer: SentencePieceTokenizer) -> None:
    from tinyllama.evaluation.language_model import LlamaLM

    assert LlamaLM(model, tokenizer).tok_encode("the cat")[0] == tokenizer.bos_id
    assert LlamaLM(model, tokenizer, bos=False).tok_encode("the cat")[0] != tokenizer.bos_id
    assert LlamaLM(model, tokenizer).tok_encode("the <s> cat").count(tokenizer.bos_id) == 1


def test_a_tokenizer_larger_than_the_model_is_refused(tokenizer: SentencePieceTokenizer) -> None:
    from tinyllama.evaluation.language_model import LlamaLM

    small = Llama(ModelShape(**SHAPE | {"vocab_size": 64}))
    with pytest.raises(EvaluationError, match="tokenizer it was trained with"):
        LlamaLM(small, tokenizer)


def test_nothing_is_fetched_cached_printed_or_left_in_the_environment(
    scores_of: Callable[..., TaskScores],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("evaluation reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("HOME", str(tmp_path))
    scores_of(["hellaswag"], data, EvaluationOptions(limit=1))
    before = dict(os.environ)
    scores_of(["commonsense"], data, EvaluationOptions(limit=1))
    assert dict(os.environ) == before
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_limit_takes_the_first_questions(scores_of: Callable[..., TaskScores], data: Path) -> None:
    scores = scores_of(["boolq", "piqa"], data, EvaluationOptions(limit=2))
    assert [score.questions for score in scores.tasks.values()] == [2, 2]
    assert scores.average is None


def test_a_missing_file_is_a_missing_task_with_its_reason(scores_of: Callable[..., TaskScores], tmp_path: Path) -> None:
    write_rows(tmp_path)
    (tmp_path / "boolq_validation.jsonl").unlink()
    scores = scores_of(["piqa", "boolq"], tmp_path)
    assert isinstance(scores.tasks["piqa"], TaskScore)
    reason = scores.to_json()["boolq"]["reason"]
    assert reason.startswith(f"no file in {tmp_path}, and none from the hub: HF_HUB_OFFLINE is set; save its files")
    assert scores.average is None


def test_without_the_eval_extra_every_task_is_missing(
    scores_of: Callable[..., TaskScores], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    scores = scores_of(["commonsense"], data)
    (missing,) = set(scores.tasks.values())
    assert isinstance(missing, MissingTask)
    assert missing.reason.startswith("lm-eval is not installed: pip install ")


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("arc_easy", {"question": {"stem": "why"}}, "field 'question' is .* expected text"),
        ("arc_challenge", {"choices": ["a", "b"]}, "field 'choices' is .* expected like"),
        ("openbookqa", {"answerKey": "Z"}, "field 'answerKey' is \"Z\"; expected one of choices.label"),
        ("boolq", {"label": True}, "field 'label' is true; expected 0 or 1"),
        ("piqa", {"label": -1}, "field 'label' is -1; expected 0 or 1"),
        ("hellaswag", {"label": 2}, 'field \'label\' is 2; expected "0" or "1"'),
        ("winogrande", {"sentence": "no gap"}, "field 'sentence' is .* expected text with a _"),
        ("winogrande", {"sentence": None}, "field 'sentence' is null; expected text with a _"),
    ],
)
def test_another_layout_is_refused_with_task_file_line_and_field(
    scores_of: Callable[..., TaskScores], tmp_path: Path, task: str, change: dict[str, Any], message: str
) -> None:
    write_rows(tmp_path)
    (file,) = [path for path in tmp_path.iterdir() if path.name.startswith(task)]
    lines = file.read_text(encoding="utf-8").splitlines()
    lines[2] = json.dumps(json.loads(lines[2]) | change)
    file.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(EvaluationError, match=rf"{task}: .*{file.name}:3: {message}"):
        scores_of([task], tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "piqa_validation.jsonl:1: not JSON"),
        ("[1]", r"piqa_validation.jsonl:1: expected an object, not \[1\]"),
        ('{"goal": "x"}', r"piqa_validation.jsonl:1: field 'sol1' is missing \(there: goal\); expected text"),
        ("\n", "piqa_validation.jsonl: has no rows"),
    ],
)
def test_a_file_of_no_rows_or_no_json_is_refused(
    scores_of: Callable[..., TaskScores], tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "piqa_validation.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(EvaluationError, match=message):
        scores_of(["piqa"], tmp_path)


def test_commonsense_stands_for_all_seven_and_each_runs_once() -> None:
    assert expand_tasks(["boolq", "commonsense"]) == ["boolq", *[name for name in NAMES if name != "boolq"]]
    assert expand_tasks(["piqa", " boolq"]) == ["piqa", "boolq"]
    assert expand_tasks([]) == []


def test_an_unknown_task_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(EvaluationError, match="'helaswag'; did you mean 'hellaswag'"):
        expand_tasks(["helaswag"])
