"""Ladders of a few steps, trained on nano's text."""

import shutil
from pathlib import Path

import pytest

from tests.ladder.library import OF_FILES, Lines, designed, write_text
from tinyllama.design.rungs import Goal, Rung, goal_of, ladder
from tinyllama.errors import UserError
from tinyllama.family import Family
from tinyllama.ladder import climb, read_ladder

COMPUTE = 0.08
"""Of a ladder, as a part of the model's: about the least with which its rungs are trained for enough steps."""


def ladder_of(
    prepared: Path, folder: Path, *overrides: str, root: Path = Path()
) -> tuple[Family, Goal, list[Rung], Lines]:
    """A small family, and a ladder of it."""
    family, lines = designed(prepared, folder, *overrides, root=root)
    goal = goal_of(family.recipe, "base")
    return family, goal, ladder(goal, 3, COMPUTE), lines


def test_a_ladder_predicts_resumes_and_keeps_what_others_wrote(prepared: Path, tmp_path: Path) -> None:
    root = tmp_path / "project"
    write_text(root, "alpha beta gamma")
    family, goal, rungs, lines = ladder_of(prepared, tmp_path / "nano", *OF_FILES, root=root)
    family.prepare()
    write_text(root, "uno dos tres")  # while the ladder is trained
    folder = tmp_path / "ladder"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    record = climb(family, goal, rungs, folder, COMPUTE).record
    assert len(record.points) == 12
    assert {point.rung for point in record.points} == {"rung-1", "rung-2", "rung-3"}
    assert all(0 < point.loss < 8 for point in record.points)
    assert record.goal.shares == {"prose": 0.75, "code": 0.25}
    assert record.prediction is not None
    assert record.prediction.measured is None
    assert record.prediction.low < record.prediction.high
    assert read_ladder(folder / "ladder.json") == record
    shared = "corpora/prose/train-00000.bin"
    assert all((folder / rung.name / shared).samefile(tmp_path / "nano" / shared) for rung in rungs)

    shutil.rmtree(folder / "rung-3" / "length-4")  # as if training had been stopped before it
    lines.said.clear()
    assert climb(family, goal, rungs, folder, COMPUTE).record == record
    assert [line for line in lines.said if line.startswith("training")] == ["training length-4"]
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_model_of_another_recipe_is_not_measured_and_said_before_rungs_are_trained(
    prepared: Path, tmp_path: Path
) -> None:
    ladder_of(prepared, tmp_path / "nano")[0].train()
    family, goal, rungs, lines = ladder_of(prepared, tmp_path / "nano", "optimizer.learning_rate.peak=3e-3")
    lines.ends_at = "rung-1"
    with pytest.raises(KeyboardInterrupt):
        climb(family, goal, rungs, tmp_path / "ladder", COMPUTE)
    assert lines.said[-2].startswith("base, which is not measured: ")
    assert "learning_rate" in lines.said[-2]


def test_a_folder_with_others_files_is_refused(prepared: Path, tmp_path: Path) -> None:
    family, goal, rungs, _ = ladder_of(prepared, tmp_path / "nano")
    (tmp_path / "ladder").mkdir()
    (tmp_path / "ladder" / "ladder.json").write_text("{}")
    with pytest.raises(UserError, match="tinyllama did not write this"):
        climb(family, goal, rungs, tmp_path / "ladder", COMPUTE)
    assert (tmp_path / "ladder" / "ladder.json").read_text() == "{}"


@pytest.mark.slow
def test_a_trained_recipe_is_predicted_within_a_tenth(prepared: Path, tmp_path: Path) -> None:
    family, goal, _, _ = ladder_of(
        prepared,
        tmp_path / "nano",
        "stages=[{name: base, until: 200K, batch: 16 sequences}]",
        "optimizer.learning_rate.horizon=200K",
        "optimizer.learning_rate.warmup=5K",
    )
    rungs = ladder(goal, 4, 0.5)
    before = climb(family, goal, rungs, tmp_path / "ladder", 0.5).record
    family.train()
    found = climb(family, goal, rungs, tmp_path / "ladder", 0.5).record.prediction
    assert before.prediction is not None
    assert found is not None
    assert found.loss == before.prediction.loss
    assert found.miss is not None
    assert abs(found.miss) < 0.1
