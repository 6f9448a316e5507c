"""summary.json reads back as it was written, in this format and in the one before."""

import json
from pathlib import Path

import pytest

from tinyllama.errors import ModelError, NewerFormatError
from tinyllama.evaluation.scores import MissingTask, TaskScore, TaskScores
from tinyllama.report.summary import FamilySummary, read_summary, write_summary

SUMMARY = FamilySummary(
    recipe="nano",
    parameters=7,
    models=["base"],
    bits_per_byte={"base": {"prose": 1.5}},
    bits_per_byte_by_source={"base": {"prose": {"a/*.txt": 1.25, "docstrings": 1.75}}},
    tasks={"base": TaskScores({"piqa": TaskScore("acc_norm", 0.5, 0.1, 4), "boolq": MissingTask("no file")})},
    tokens={"base": 4096},
    machine={"cpu": "x", "cores": 2, "memory_gib": 23.4},
)


def test_a_summary_reads_back_as_it_was_written(tmp_path: Path) -> None:
    write_summary(tmp_path / "summary.json", SUMMARY)
    assert read_summary(tmp_path / "summary.json") == SUMMARY
    assert json.loads((tmp_path / "summary.json").read_text())["tasks"]["base"]["average"] is None


def test_a_summary_without_a_format_number_is_the_version_befores(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_summary(path, SUMMARY)
    data = json.loads(path.read_text())
    del data["format"]
    path.write_text(json.dumps(data))
    assert read_summary(path) == SUMMARY


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 3}, "format: 3 was written by a later version"),
        ({"tokens": {"base": "many"}}, r"tokens\.base: "),
        ({"tasks": []}, "tasks: "),
        ({"tasks": {"base": {"piqa": {"score": 1}}}}, r"tasks\.base\.piqa"),
    ],
)
def test_a_wrong_key_is_refused_by_name(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(SUMMARY.to_json() | change))
    with pytest.raises((ModelError, NewerFormatError), match=rf"summary\.json: {message}"):
        read_summary(path)
