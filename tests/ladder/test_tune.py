"""Sweeps of peaks over trials of a few steps, trained on nano's text."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.ladder.library import designed
from tinyllama.design.rungs import goal_of
from tinyllama.design.transfer import Transfer
from tinyllama.design.tuning import Sweep
from tinyllama.errors import CheckpointError, PlanError, UserError
from tinyllama.ladder import read_tune, tune
from tinyllama.ladder.tune_record import TuneRecord, finished, sweep_record, trial_record
from tinyllama.ladder.tune_text import outcome_text, rows, transfer_text
from tinyllama.recipe import load_recipe
from tinyllama.record_files import write_record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.ladder.library import Lines
    from tinyllama.family import Family
    from tinyllama.ladder.tune_record import TrialRecord

WITHOUT_RUNGS = """{"format": 1, "sweep": {"recipe": "nano", "model": "base", "peak": 0.004, "transfer": "compute",
"base_width": null, "layers": 1, "width": 16, "parameters": 21000, "tokens": 5000, "sequences": 2,
"shares": {"prose": 0.75, "code": 0.25}}, "trials": [
{"name": "peak-0.002", "exponent": -1, "peak": 0.002, "own_peak": 0.003, "seed": 1, "loss": 3.5},
{"name": "peak-0.004", "exponent": 0, "peak": 0.004, "own_peak": 0.006, "seed": 1, "loss": null}],
"best": {"peak": 0.002, "loss": 3.5, "is_bracketed": false, "keys": {"optimizer.learning_rate.peak": 0.002}}}"""
"""A record as `tune` wrote it when it swept one rung only."""


def sweep_of(prepared: Path, folder: Path, *overrides: str, length: float = 0.1) -> tuple[Family, Sweep, Lines]:
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
    losses = {exponent: loss for exponent, (loss,) in record.losses(1).items()}
    assert all(0 < loss < 8 for loss in losses.values())
    assert record.best.loss == min(losses.values())
    assert record.best.keys["base_width"] == sweep.shapes[0].width
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
    assert record.law is None

    every = tune(family, sweep, folder, 3, seeds=2)
    assert len(every.losses(1)) >= len(exponents)
    assert {len(of_peak) for of_peak in every.losses(1).values()} == {2}

    with pytest.raises(UserError, match=r"tune: its trials have tokens \d+, not \d+; give another --folder"):
        tune(family, Sweep(sweep.goal, Transfer.MUP, 0.8), folder, 3)
    family, sweep, _ = sweep_of(prepared, tmp_path / "nano", "optimizer.weight_decay=0.5")
    with pytest.raises(CheckpointError, match="weight_decay"):
        tune(family, sweep, folder, 3)


def test_two_rungs_resume_and_give_the_peak_by_their_own_law(prepared: Path, tmp_path: Path) -> None:
    family, lines = designed(prepared, tmp_path / "nano", "optimizer.learning_rate.peak=0.04")
    sweep = Sweep(goal_of(family.recipe, "base"), Transfer.COMPUTE, 0.05, rungs=2)
    folder = tmp_path / "tune"
    lines.ends_at = "peak-0.02-rung-2"
    with pytest.raises(KeyboardInterrupt):
        tune(family, sweep, folder, 3)
    lines.ends_at = None
    before = read_tune(folder / "tune.json")
    assert {trial.rung for trial in before.trials} == {1}
    assert (before.best, before.law) == (None, None)
    lines.said.clear()
    record = tune(family, sweep, folder, 3)
    trained = lines.said.count("training length-1")
    assert trained == len(record.losses(2)) == len(record.trials) - len(before.trials)
    assert record.law is not None
    assert record.best is not None
    assert read_tune(folder / "tune.json") == record
    first, second = record.law.rungs
    assert (first.width, second.width) == tuple(shape.width for shape in sweep.shapes)
    slope = math.log(second.peak / first.peak) / math.log(second.flops / first.flops)
    assert record.law.exponent == pytest.approx(slope)
    expected = first.peak * (sweep.goal.flops / first.flops) ** slope
    assert record.best.peak == pytest.approx(expected, rel=5e-3)
    assert record.best.keys["optimizer.learning_rate.peak"] == record.best.peak
    with pytest.raises(UserError, match="tune: its trials have rungs 2, not 1; give another --folder"):
        tune(family, replace(sweep, rungs=1), folder, 3)


def swept(exponent: float, best: Sequence[float]) -> tuple[TuneRecord, Sweep]:
    """The record of a sweep of several rungs, of which none is trained.

    Args:
        exponent: of the law of their peaks, which goes through the recipe's own.
        best: of each rung, how far above that law its best peak is, as a power of two.
    """
    recipe = load_recipe("nano")
    sweep = Sweep(goal_of(recipe, "v1.1"), Transfer.COMPUTE, 0.5, len(best))
    trials: list[TrialRecord] = []
    for number, above in enumerate(best, 1):
        part = sweep.trial(0, 0, number).rung.flops / sweep.goal.flops
        lowest = math.log2(part) * (exponent + 0.125) + above  # peaks of the recipe are by the published exponent
        trials += [
            trial_record(sweep.trial(power, 0, number), 3 + 0.1 * (power - lowest) ** 2) for power in range(-3, 4)
        ]
    return TuneRecord(sweep=sweep_record(sweep, sweep.trial(0, 0)), trials=tuple(trials)), sweep


def test_a_planted_law_of_the_rungs_gives_exponent_peak_and_how_sure_they_are() -> None:
    begun, sweep = swept(-0.3, [0, 0, 0])
    record = finished(begun, sweep)
    law, best = record.law, record.best
    assert law is not None
    assert best is not None
    assert law.exponent == pytest.approx(-0.3, abs=2e-3)
    assert law.published_exponent == -0.125
    assert best.peak == pytest.approx(sweep.goal.recipe.optimizer.learning_rate.peak, rel=0.01)
    assert best.is_bracketed
    assert law.exponent_interval == pytest.approx((-0.3, -0.3), abs=0.02)
    assert [rung.loss for rung in law.rungs] == pytest.approx([3, 3, 3], abs=0.03)
    shown = transfer_text(record)
    assert "each trial of rung 3: " in shown
    assert f"C^{law.exponent:.3f}; 90% interval of the exponent" in shown
    assert "published: C^-0.125 (Bi et al. 2024, equation 1)" in shown
    assert "90% interval" in outcome_text(record)
    assert [len(list(rows(record, number))) for number in (1, 2, 3)] == [8, 8, 8]


def test_the_law_of_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    for best in ([0, 0.2], [0, 0.2, -0.3]):
        record = finished(*swept(-0.2, best))
        write_record(tmp_path / "tune.json", record)
        assert read_tune(tmp_path / "tune.json") == record
        assert record.law is not None
        assert (record.law.exponent_interval is None) == (len(best) == 2)
    assert "two rungs do not tell how sure that is, 3 do" in transfer_text(finished(*swept(-0.2, [0, 0.2])))


def test_rungs_whose_best_peak_is_the_last_one_are_named() -> None:
    record = finished(*swept(-0.125, [0, 9, -9]))
    assert record.best is not None
    assert not record.best.is_bracketed
    assert record.law is not None
    assert [rung.is_bracketed for rung in record.law.rungs] == [True, False, False]
    assert "the best trial of rung 2 and rung 3 is the last one on its side" in outcome_text(record)


def test_a_rung_that_diverges_at_every_peak_is_refused() -> None:
    begun, sweep = swept(-0.125, [0, 0])
    trials = [trial.model_copy(update={"loss": None}) if trial.rung == 2 else trial for trial in begun.trials]
    with pytest.raises(PlanError, match="the trials diverge at every peak from"):
        finished(begun.model_copy(update={"trials": tuple(trials)}), sweep)


def test_a_sweep_that_a_version_without_rungs_wrote_is_of_one_rung(tmp_path: Path) -> None:
    (tmp_path / "tune.json").write_text(WITHOUT_RUNGS)
    record = read_tune(tmp_path / "tune.json")
    assert record.sweep.rungs == 1
    assert record.losses(1) == {-1: [3.5], 0: [math.inf]}
    assert record.law is None
    assert outcome_text(record).startswith("best peak 0.002, the recipe has 0.004; the best trial is the last one")


def test_trials_that_diverge_count_as_worst(prepared: Path, tmp_path: Path) -> None:
    family, sweep, _ = sweep_of(prepared, tmp_path / "nano", "optimizer.learning_rate.peak=1e30")
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
