"""Any task of lm-eval by its name, with rows from a stand-in hub, against `lm_eval --model hf` question by question."""

from __future__ import annotations

import json
import math
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from tests.evaluation.hub_rows import parquet
from tests.evaluation.named_tasks import NAMED, Row, rows_of
from tests.evaluation.test_hub_data import use
from tests.export.hub_stand_in import COMMIT, CONVERTED, Hub, stand_in_hub
from tinyllama.cli.commands import app
from tinyllama.errors import EvaluationError
from tinyllama.evaluation.contamination import read_questions
from tinyllama.evaluation.lm_eval_index import definitions, lm_eval_folder
from tinyllama.evaluation.scores import EvaluationOptions, MissingTask, TaskScore
from tinyllama.evaluation.tasks import evaluate_tasks
from tinyllama.formats.open import open_model
from tinyllama.hub import HubAnswer
from tinyllama.quality.overlap import words
from tinyllama.tokenizer.convert import write_transformers_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lm_eval.models.huggingface import HFLM

    from tinyllama.evaluation.scores import TaskScores
    from tinyllama.model import Llama
    from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer

FEW = ["lambada_openai", "wikitext", "triviaqa", "cola"]
"""One of each type of request; the last one's metric is no mean."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with the data sets of the named tasks; that it answers is tested apart."""
    monkeypatch.setenv("TINYLLAMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tinyllama.evaluation.hub_sets.probe", lambda *_: HubAnswer(COMMIT))
    with stand_in_hub() as hub:
        for name, task in NAMED.items():
            hub.repositories.setdefault(f"datasets/{task.repository}", {"program.py": b""})
            files = hub.repositories.setdefault(f"datasets/{task.repository}@{CONVERTED}", {})
            for split, rows in rows_of(name).items():
                files[f"{task.config}/{split}/0000.parquet"] = parquet(rows)
        use(monkeypatch, hub.url)
        yield hub


@pytest.fixture(scope="module")
def long_folder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with a context that leaves room for the 256 new tokens that `HFLM` insists on.

    Its tokenizer is as we export it: transformers would save one that drops a space at the beginning of a text.
    """
    copy = tmp_path_factory.mktemp("long")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (copy / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 320}), encoding="utf-8")
    shutil.copy(folder / "model.safetensors", copy)
    write_transformers_files(folder / "tokenizer.model", copy, context=320)
    return copy


@pytest.fixture(scope="module")
def model(long_folder: Path) -> Llama:
    return open_model(long_folder).load()


@pytest.fixture(scope="module")
def hflm(long_folder: Path) -> HFLM:
    """What `lm_eval --model hf` runs."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(long_folder), device="cpu", dtype="float32", batch_size=3)


def by_lm_eval(
    hflm: HFLM, name: str, folder: Path, shots: int | None = None, limit: int | None = None
) -> dict[str, Any]:
    """A task by lm-eval alone: its definition, its json loader, its model."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    files = {}
    for split, rows in rows_of(name).items():
        path = folder / f"{name}-{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        files[split] = str(path)
    manager = TaskManager(include_path=sorted(definitions(theirs())[name]), include_defaults=False)
    kwargs = {"data_files": files, "cache_dir": str(folder / "cache")}
    task = {"task": name, "dataset_path": "json", "dataset_name": None, "dataset_kwargs": kwargs}
    return simple_evaluate(
        hflm,
        tasks=[{"group": "alone", "task": [task]}],
        task_manager=manager,
        num_fewshot=shots,
        limit=limit,
        bootstrap_iters=0,
        log_samples=True,
    )


def theirs() -> Path:
    folder = lm_eval_folder()
    assert folder is not None
    return folder


def assert_equal(scores: TaskScores, name: str, expected: dict[str, Any]) -> None:
    """Every prompt, answer, metric and the score."""
    score = scores.tasks[name]
    assert isinstance(score, TaskScore), score
    (key,) = [key for key in expected["results"][name] if key.startswith(f"{score.metric},")][:1]
    chosen = key.partition(",")[2]
    assert score.score == pytest.approx(expected["results"][name][key], rel=1e-6)
    samples = [sample for sample in expected["samples"][name] if sample["filter"] == chosen]
    assert len(scores.answers[name]) == len(samples) == score.questions > 0
    for answer, sample in zip(scores.answers[name], sorted(samples, key=lambda sample: sample["doc_id"]), strict=True):
        assert answer.question == sample["doc_id"]
        assert answer.requests == [list(arguments)[:2] for arguments in sample["arguments"]]
        assert answer.row_sha256 == sample["doc_hash"]
        for ours, (response,) in zip(answer.responses, sample["resps"], strict=True):
            if isinstance(ours, str):
                assert ours == response
            else:
                total, *greedy = response if isinstance(response, tuple) else (response,)
                assert ours[0] == pytest.approx(total, abs=1e-4, rel=1e-6)
                assert [ours[1]] == greedy or not greedy
        match sample[score.metric]:
            case (total, weight) if score.metric == "bits_per_byte":
                value = -total / weight / math.log(2)
            case (right, answered):
                value = right == answered
            case value:
                pass
        assert answer.scores[score.metric] == pytest.approx(float(value))


@pytest.mark.usefixtures("hub")
def test_tasks_of_each_type_equal_lm_eval_hf(
    model: Llama, tokenizer: SentencePieceTokenizer, hflm: HFLM, tmp_path: Path
) -> None:
    scores = evaluate_tasks(model, tokenizer, FEW, tmp_path, EvaluationOptions(limit=2))
    for name in FEW:
        assert_equal(scores, name, by_lm_eval(hflm, name, tmp_path, limit=2))


@pytest.mark.slow
@pytest.mark.usefixtures("hub")
def test_twenty_tasks_equal_lm_eval_hf(
    model: Llama, tokenizer: SentencePieceTokenizer, hflm: HFLM, tmp_path: Path
) -> None:
    assert len(NAMED) >= 20
    scores = evaluate_tasks(model, tokenizer, list(NAMED), tmp_path)
    for name in NAMED:
        assert_equal(scores, name, by_lm_eval(hflm, name, tmp_path))


@pytest.mark.usefixtures("hub")
def test_examples_are_those_of_lm_eval(
    model: Llama, tokenizer: SentencePieceTokenizer, hflm: HFLM, tmp_path: Path
) -> None:
    scores = evaluate_tasks(model, tokenizer, ["sciq"], tmp_path, EvaluationOptions(shots=2))
    assert_equal(scores, "sciq", by_lm_eval(hflm, "sciq", tmp_path, shots=2))
    assert scores.measured["sciq"].shots == 2


OWN = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_choice: ["cat", "dogs"]
doc_to_target: label
metric_list: [{{metric: acc}}]
"""


@pytest.fixture
def own_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a group `mine` of two tasks, of 3 questions and of 1."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for name, questions in (("mine_one", 3), ("mine_two", 1)):
        rows = [{"question": f"the {index}", "label": index % 2} for index in range(questions)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / f"{name}.yaml").write_text(OWN.format(name=name, file=tmp_path / f"{name}.jsonl"))
    group = "group: mine\ntask: [mine_one, mine_two]\naggregate_metric_list: [{metric: acc, weight_by_size: true}]\n"
    (tmp_path / "mine.yaml").write_text(group)
    return tmp_path


def test_a_group_of_a_users_own_tasks_has_one_score(
    model: Llama, tokenizer: SentencePieceTokenizer, own_tasks: Path
) -> None:
    options = EvaluationOptions(include_path=own_tasks)
    scores = evaluate_tasks(model, tokenizer, ["mine"], own_tasks, options)
    answers = scores.answers["mine"]
    assert [answer.question for answer in answers] == ["mine_one/0", "mine_one/1", "mine_one/2", "mine_two/0"]
    mean = sum(answer.scores["acc"] for answer in answers) / 4
    assert scores.measured["mine"].score == pytest.approx(mean)
    assert list(evaluate_tasks(model, tokenizer, ["mine_two"], own_tasks, options).measured) == ["mine_two"]


@pytest.mark.slow
def test_a_group_of_lm_eval_is_scored_over_all_its_subjects_and_asks_for_those_that_lack(
    hub: Hub, model: Llama, tokenizer: SentencePieceTokenizer, hflm: HFLM, tmp_path: Path
) -> None:
    from lm_eval.api.instance import Instance

    group, files = "mmlu_social_sciences", hub.repositories[f"datasets/cais/mmlu@{CONVERTED}"]
    definitions_of_subjects = sorted((theirs() / "mmlu/default").glob("mmlu_*.yaml"))
    subjects = [path.stem for path in definitions_of_subjects if f'"{group}_tasks"' in path.read_text(encoding="utf-8")]
    rows = {subject: rows_of("mmlu_anatomy")["test"][: 1 + (subject == subjects[0])] for subject in subjects}
    places = [
        (subject, f"{subject.removeprefix('mmlu_')}/{split}") for subject in subjects for split in ("dev", "test")
    ]
    for subject, place in places[:4]:
        files[f"{place}/0000.parquet"] = parquet(rows[subject])
    lacking = evaluate_tasks(model, tokenizer, [group], tmp_path).tasks[group]
    assert isinstance(lacking, MissingTask)
    assert "cais/mmlu (" in lacking.reason
    assert "has no Parquet files" in lacking.reason
    for subject, place in places[4:]:
        files[f"{place}/0000.parquet"] = parquet(rows[subject])
    shutil.rmtree(tmp_path / "cache")
    scores = evaluate_tasks(model, tokenizer, [group], tmp_path)
    answers = scores.answers[group]
    expected = {f"{subject}/{i}" for subject in subjects for i in range(len(rows[subject]))}
    assert {answer.question for answer in answers} == expected
    assert len(answers) == scores.measured[group].questions == len(subjects) + 1 > 10
    mean = sum(answer.scores["acc"] for answer in answers) / len(answers)
    assert scores.measured[group].score == pytest.approx(mean)
    requests = [Instance("loglikelihood", {}, tuple(ask), 0) for answer in answers for ask in answer.requests]
    responses = [response for answer in answers for response in answer.responses]
    for ours, (total, greedy) in zip(responses, hflm.loglikelihood(requests, disable_tqdm=True), strict=True):
        assert ours == (pytest.approx(total, abs=1e-4), greedy)


def test_a_users_own_task_is_fetched_ahead(hub: Hub, tmp_path: Path) -> None:
    text = OWN.format(name="mine", file="").replace("dataset_path: json", "dataset_path: me/own")
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith("dataset_kwargs")]
    (tmp_path / "own").mkdir()
    (tmp_path / "own/mine.yaml").write_text("".join(lines))
    command = ["evaluate", "--fetch", "mine,sciq", "--include-path", str(tmp_path / "own"), "--data", str(tmp_path)]
    assert "me/own" in str(CliRunner().invoke(app, command).exception), "the hub has no such data set"
    hub.repositories["datasets/me/own"] = {"program.py": b""}
    rows = parquet([{"question": "the 0", "label": 0}])
    hub.repositories[f"datasets/me/own@{CONVERTED}"] = {"default/test/0000.parquet": rows}
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    lock = json.loads((tmp_path / "cache/evaluation/lock.json").read_text())
    assert {"me/own", "allenai/sciq"} <= lock["sets"].keys()


def test_contamination_covers_a_users_own_tasks(own_tasks: Path) -> None:
    questions, missing = read_questions(["mine"], own_tasks, own_tasks)
    assert (questions, missing) == ({"mine": ["the 0 cat", "the 1 dogs", "the 2 cat", "the 0 cat"]}, {})


@pytest.mark.usefixtures("hub")
def test_contamination_covers_tasks_that_lm_eval_defines(tmp_path: Path) -> None:
    questions, missing = read_questions(["sciq", "wsc273"], tmp_path)
    row = rows_of("sciq")["test"][0]
    assert missing == {}
    assert str(row["question"]) in questions["sciq"][0]
    assert questions["sciq"][0].endswith(f" {row['correct_answer']}")
    assert [len(found) for found in questions.values()] == [4, 4]


@pytest.mark.slow
@pytest.mark.usefixtures("hub")
def test_contamination_covers_twenty_tasks_of_all_types(tmp_path: Path) -> None:
    questions, missing = read_questions(list(NAMED), tmp_path)
    assert missing == {}
    assert list(questions) == list(NAMED)
    for name, texts in questions.items():
        spelled = [f" {' '.join(words(text))} " for text in texts]
        assert any(
            all(f" {' '.join(words(part_of(name, row)))} " in text for row, text in zip(rows, spelled, strict=True))
            for rows in rows_of(name).values()
        ), name


def part_of(name: str, row: Row) -> str:
    """A part of a row that its question or right answer spells as it is."""
    match name, row:
        case "swag", {"startphrase": str(part)}:
            return part
        case "blimp_adjunct_island", {"sentence_good": str(part)}:
            return part
        case "wsc273", {"options": [*options], "label": int(label)}:
            return str(options[label])
        case _:
            return max((value for value in row.values() if isinstance(value, str)), key=len)


def test_a_task_whose_data_the_hub_lacks_has_a_reason(
    hub: Hub, model: Llama, tokenizer: SentencePieceTokenizer, tmp_path: Path
) -> None:
    del hub.repositories["datasets/allenai/sciq"]
    result = evaluate_tasks(model, tokenizer, ["sciq"], tmp_path).tasks["sciq"]
    assert isinstance(result, MissingTask)
    assert "Repository Not Found" in result.reason


def test_an_unknown_task_is_refused_with_the_nearest_name(
    model: Llama, tokenizer: SentencePieceTokenizer, tmp_path: Path
) -> None:
    with pytest.raises(EvaluationError, match="did you mean 'lambada_openai'"):
        evaluate_tasks(model, tokenizer, ["lambada_opnai"], tmp_path)
