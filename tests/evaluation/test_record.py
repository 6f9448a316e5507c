"""One record for all evaluations: it reads back as written, old ones stay readable, wrong ones are refused by key."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.evaluation.test_abilities import write_exam
from tinyllama.errors import EvaluationError, NewerFormatError
from tinyllama.evaluation import legacy
from tinyllama.evaluation.agreement import Agreement
from tinyllama.evaluation.answers import Answer
from tinyllama.evaluation.record import BitsPerByte, Conditions, EvaluationRecord
from tinyllama.evaluation.record_folder import (
    compare_with_record,
    read_current_record,
    read_record,
    read_records_by_tokens,
    write_record,
)
from tinyllama.evaluation.scores import MissingTask, TaskScore, TaskScores
from tinyllama.evaluation.task_data import TASK_DATA
from tinyllama.evaluation.task_files import data_hashes
from tinyllama.formats.identity import ModelIdentity

OLD = Path(__file__).parent.parent / "legacy/family-4bd9be0"
ANSWER = Answer("boolq", 0, [(-1.5, False), (-2.0, True)], {"acc": 1.0}, [["why?", " a"], ["why?", " b"]], 0, "hash")
RECORD = EvaluationRecord(
    model="base",
    source=ModelIdentity(
        kind="checkpoint",
        sha256="a" * 64,
        adds_bos=True,
        stored_dtype="float32",
        recipe="nano",
        model="base",
        step=12,
        tokens=4096,
        fingerprint="b" * 64,
    ),
    scores=TaskScores({"boolq": TaskScore("acc", 0.5, 0.1, 4, 0.2, "2.0", cut=3), "piqa": MissingTask("no data")}),
    bits_per_byte=BitsPerByte({"prose": 2.5}, 64, 64, "bf16"),
    conditions=Conditions(
        tokenizer_sha256="c" * 64,
        dtype="bf16",
        device="cpu",
        threads=2,
        machine={"cpu": "x", "cores": 2, "memory_gib": 1.5},
        versions={"torch": "2"},
        seconds=1.5,
        limit=4,
    ),
    inputs="d" * 64,
    against_fp32={"boolq": Agreement(4, [2, "law/1"], 0.25)},
)


def test_a_record_reads_back_as_it_was_written(tmp_path: Path) -> None:
    write_record(tmp_path, replace(RECORD, scores=TaskScores(RECORD.scores.tasks, {"boolq": [ANSWER]})))
    assert read_record(tmp_path) == RECORD
    assert {path.name for path in tmp_path.iterdir()} == {"record.json", "questions.jsonl", "scores.csv", "scores.md"}
    assert "| boolq | acc | 50.00 | 20.00 | 4 | 0 | 2.0 |" in (tmp_path / "scores.md").read_text()
    assert "which can lower the scores: boolq 3 of 4 questions" in (tmp_path / "scores.md").read_text()


def test_a_folder_without_a_record_has_none(tmp_path: Path) -> None:
    assert read_record(tmp_path / "base") is None


def changed(folder: Path, **changes: object) -> Path:
    """The record's file, with keys set to other values; None removes one."""
    write_record(folder, RECORD)
    path = folder / "record.json"
    fields = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in fields.items() if value is not None}))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": None}, "source: is missing"),
        ({"conditions": {"dtype": "fp32"}}, "conditions.tokenizer_sha256: is missing"),
        ({"bits_per_byte": {"values": {"prose": "much"}}}, "bits_per_byte.values.prose: "),
        ({"format": 3}, "format: 3 was written by a later version"),
    ],
)
def test_a_wrong_record_is_refused_with_file_and_key(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = changed(tmp_path, **changes)
    with pytest.raises((EvaluationError, NewerFormatError), match=f"{path}: {message}"):
        read_record(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_file_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(EvaluationError, match=r"record\.json: "):
        read_record(tmp_path)


def test_a_single_record_of_format_1_is_read() -> None:
    record = read_record(OLD / "evaluations/legacy_base_step-16")
    assert record is not None
    assert (record.source.recipe, record.source.model, record.source.tokens) == ("legacy", "base", 2048)
    assert (record.source.adds_bos, record.bits_per_byte) == (True, None)
    assert record.scores.measured["arc_easy"].questions == 4
    assert record.conditions is not None
    assert (record.conditions.dtype, record.conditions.rows, record.conditions.threads) == ("fp32", None, 2)


def test_a_familys_old_record_is_read_from_beside_its_folder() -> None:
    written = json.loads((OLD / "runs/legacy/evaluation/base.json").read_text())
    record = read_record(OLD / "runs/legacy/evaluation/base")
    assert record is not None
    assert record.bits_per_byte is not None
    assert record.bits_per_byte.values == written["bits_per_byte"]
    assert record.scores.to_json() == written["tasks"]
    assert (record.source.tokens, record.source.fingerprint) == (written["tokens"], written["fingerprint"])
    assert record.inputs == written["inputs"]


def test_old_and_new_scores_during_training_make_one_series(tmp_path: Path) -> None:
    old = tmp_path / "evaluation/by_tokens/base/2048.json"
    old.parent.mkdir(parents=True)
    old.write_text(json.dumps({"tokens": 2048, "step": 6, "tasks": {"piqa": {"reason": "no data"}, "average": None}}))
    folder = tmp_path / "evaluation/base/by_tokens"
    write_record(folder / "4096", RECORD)
    records = read_records_by_tokens(folder)
    assert [(record.source.step, record.source.tokens) for record in records] == [(6, 2048), (12, 4096)]
    old.write_text("{}")
    with pytest.raises(EvaluationError, match=r"2048\.json: tokens: is missing"):
        read_records_by_tokens(folder)


def test_a_record_is_current_while_its_inputs_are_among_those_given(tmp_path: Path) -> None:
    write_record(tmp_path / "base", RECORD)
    shutil.copyfile(OLD / "runs/legacy/evaluation/base.json", tmp_path / "base.json")
    old = json.loads((tmp_path / "base.json").read_text())["inputs"]
    assert read_current_record(tmp_path / "base", ["e" * 64]) is None
    assert read_current_record(tmp_path / "base", ["e" * 64, "d" * 64]) == RECORD
    kept = read_current_record(tmp_path / "base", [old])
    assert kept is not None
    assert kept.inputs == old
    (tmp_path / "base/record.json").write_text("{")
    assert read_current_record(tmp_path / "base", ["d" * 64]) is None


def test_answers_are_compared_with_a_record_of_the_same_model_alone(tmp_path: Path) -> None:
    write_record(tmp_path, replace(RECORD, scores=TaskScores(RECORD.scores.tasks, {"boolq": [ANSWER]})))
    ours, tokenizer = [replace(ANSWER, responses=[(-1.25, False), (-1.0, True)])], "c" * 64
    assert compare_with_record(tmp_path, RECORD.source, tokenizer, ours) == {"boolq": Agreement(1, [0], 1.0)}
    for source, other in (
        (replace(RECORD.source, sha256="f" * 64), tokenizer),
        (replace(RECORD.source, adds_bos=False), tokenizer),
        (RECORD.source, "f" * 64),
    ):
        assert compare_with_record(tmp_path, source, other, ours) is None
    assert compare_with_record(tmp_path / "nowhere", RECORD.source, tokenizer, ours) is None


def test_a_task_knows_all_its_files(tmp_path: Path) -> None:
    for name in ("gsm8k_test.jsonl", "gsm8k_train.jsonl", "piqa_validation.jsonl"):
        (tmp_path / name).write_text(name)
    write_exam(tmp_path, "ceval")
    assert [path.name for path in TASK_DATA["gsm8k"].files(tmp_path)] == ["gsm8k_test.jsonl", "gsm8k_train.jsonl"]
    exam = TASK_DATA["ceval"].files(tmp_path)
    assert len(exam) == 52
    before = data_hashes(["ceval", "gsm8k"], tmp_path)
    assert len(before) == 54
    assert "ceval/val/law_val.csv" in before
    exam[0].write_text("changed")
    after = data_hashes(["ceval", "gsm8k"], tmp_path)
    assert {name for name in before if before[name] != after[name]} == {exam[0].relative_to(tmp_path).as_posix()}


def test_hashes_of_data_are_those_of_4bd9be0_where_all_files_are_the_tasks_own(tmp_path: Path) -> None:
    (tmp_path / "piqa_validation.jsonl").write_text("x")
    assert data_hashes(["piqa", "boolq"], tmp_path) == legacy.data_hashes(tmp_path)
    assert data_hashes(["piqa"], tmp_path / "nowhere") == legacy.data_hashes(tmp_path / "nowhere") == {}


def test_a_journal_of_4bd9be0_is_continued() -> None:
    from tinyllama.files import sha256_json

    head = (OLD / "evaluations/legacy_base_step-16/journal.jsonl").read_text().splitlines()[0]
    record = read_record(OLD / "evaluations/legacy_base_step-16")
    assert record is not None
    assert record.conditions is not None
    inputs = legacy.journal_inputs(
        record.source, record.conditions.tokenizer_sha256, "fp32", "cpu", record.conditions.versions["torch"]
    )
    assert json.loads(head)["inputs"] == sha256_json(inputs)
