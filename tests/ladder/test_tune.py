"""Sweeps of peaks over trials of a few steps, trained on nano's text."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.ladder.library import designed
from tinyllama.design.rungs import goal_of
from tinyllama.design.transfer import Transfer
from tinyllama.design.tuning import Sweep
from tinyllama.errors import CheckpointError, PlanError, UserError
from tinyllama.ladder import read_tune, tune
from tinyllama.ladder.tune_text import outcome_text, rows, transfer_text

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ladder.library import Lines
    from tinyllama.family import Family


def sweep_of(prepared: Path, folder: Path, *overrides: str, length: float = 0.5) -> tuple[Family, Sweep, Lines]:
    family, lines = designed(prepared, folder, *overrides)
    return family, Sweep(goal_of(family.recipe, "base"), Transfer.MUP, length), lines


def test_a_sweep_finds_a_peak_resumes_and_keeps_what_others_wrote(prepared: Path, tmp_path: Path) -> None:
    family, sweep, lines = sweep_of(prepared, tmp_path / "nano")
    folder = tmp_path / "tune"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    lines.ends_at = "training"
    with pytest.raises(KeyboardInterrupt):
        tune(family, sweep, folder, 3)
    lines.ends_at = None
    record = tune(family, sweep, folder, 3)
    assert record.best is not None
    exponents = [trial.exponent for trial in record.trials]
    assert exponents[:3] == [-1, 0, 1]
    assert 3 <= len(exponents) <= 6
    losses = {exponent: loss for exponent, (loss,) in record.losses.items()}
    assert all(0 < loss < 8 for loss in losses.values())
    assert record.best.loss == min(losses.values())
    assert record.best.keys["base_width"] == sweep.shape.width
    assert read_tune(folder / "tune.json") == record
    shared = "corpora/prose/train-00000.bin"
    assert all((folder / trial.name / shared).samefile(tmp_path / "nano" / shared) for trial in record.trials)

    shutil.rmtree(folder / record.trials[1].name / "length-1")  # as if training had been stopped before it
    lines.said.clear()
    again = tune(family, sweep, folder, 3)
    assert again.best == record.best
    assert [line for line in lines.said if line.startswith("training")] == ["training length-1"]
    assert (folder / "notes.txt").read_text() == "mine"

    header, *body = rows(record)
    assert len(body) == len(losses)
    assert all(len(row) == len(header) for row in body)
    assert [row[-1] for row in body].count("+0.00%") >= 1
    assert f"best peak {record.best.peak:g}, the recipe has 0.004" in outcome_text(record)
    assert "muP keeps the best peak" in transfer_text(record)

    every = tune(family, sweep, folder, 3, seeds=2)
    assert len(every.losses) >= len(exponents)
    assert {len(of_peak) for of_peak in every.losses.values()} == {2}

    with pytest.raises(UserError, match=r"tune: its trials have tokens \d+, not \d+; give another --folder"):
        tune(family, Sweep(sweep.goal, Transfer.MUP, 0.8), folder, 3)
    family, sweep, _ = sweep_of(prepared, tmp_path / "nano", "optimizer.weight_decay=0.5")
    with pytest.raises(CheckpointError, match="weight_decay"):
        tune(family, sweep, folder, 3)


def test_trials_that_diverge_count_as_worst(prepared: Path, tmp_path: Path) -> None:
    family, sweep, _ = sweep_of(prepared, tmp_path / "nano", "optimizer.learning_rate.peak=1e30", length=0.3)
    with pytest.raises(PlanError, match="the trials diverge at every peak from"):
        tune(family, sweep, tmp_path / "tune", 3)
    record = read_tune(tmp_path / "tune/tune.json")
    assert [trial.loss for trial in record.trials] == [None] * 6
    assert record.best is None
    assert [row[2] for row in rows(record)][1:] == ["diverged"] * 6


def test_a_folder_with_others_files_is_refused(prepared: Path, tmp_path: Path) -> None:
    family, sweep, _ = sweep_of(prepared, tmp_path / "nano")
    (tmp_path / "tune").mkdir()
    (tmp_path / "tune/tune.json").write_text("{}")
    with pytest.raises(UserError, match="tinyllama did not write this"):
        tune(family, sweep, tmp_path / "tune", 3)
    assert (tmp_path / "tune/tune.json").read_text() == "{}"
