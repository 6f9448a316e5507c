"""Try peak learning rates on rungs of a ladder, and find the recipe's."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING

from tinyllama.design.tuning import MOST_MORE, first_exponents, next_exponent
from tinyllama.errors import DivergedError, UserError
from tinyllama.folders import FolderKind, claim
from tinyllama.ladder.small_models import train_small
from tinyllama.ladder.tune_record import (
    TrialRecord,
    TuneRecord,
    finished,
    read_tune,
    sweep_record,
    trial_record,
)
from tinyllama.record_files import holds_record, write_record

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tinyllama.design.tuning import Sweep, Trial
    from tinyllama.family import Family
    from tinyllama.family.prepare import Prepared

RECORD = "tune.json"
_TRIALS = "peak-*"


def tune(family: Family, sweep: Sweep, folder: Path, peaks: int, seeds: int = 1) -> TuneRecord:
    """Train what is missing of a sweep, and find the peak.

    The text is prepared in the family of the recipe itself. Every trial is a family of its own with hard links to it,
    so an interrupted sweep resumes where it was. Where the best peak of a rung is the first or the last one, up to
    `MOST_MORE` follow beside it.

    Args:
        family: the recipe's, which need not be trained.
        sweep: the trials.
        folder: of the sweep.
        peaks: how many to try at first on each rung.
        seeds: trials of each.

    Raises:
        UserError: the folder holds somebody else's file, or trials of another sweep.
        CorpusError: a trial has another text than the family.
        PlanError: all trials of a rung diverged.
        CheckpointError: a trial was trained for another recipe.
        Interrupted: a signal stopped training; the state was saved first.
    """
    kind = FolderKind("a sweep of peaks", (RECORD, _TRIALS), lambda path: holds_record(TuneRecord, path / RECORD))
    claim(folder, kind)
    record = _opened(folder, TuneRecord(sweep=sweep_record(sweep, sweep.trial(0, 0))))
    prepared = family.prepare()
    prepared.require(family.recipe, sweep.goal.model)
    folder.mkdir(parents=True, exist_ok=True)
    write_record(folder / RECORD, record)  # before the trials, whose folders are ours by it
    first = first_exponents(peaks)
    for number in range(1, sweep.rungs + 1):
        todo = sorted({*first, *record.losses(number)})  # also peaks that followed before, whose seeds may lack
        while todo:
            for exponent, seed in product(todo, range(seeds)):
                trial = sweep.trial(exponent, seed, number)
                record = _with(record, _train(family, trial, folder, prepared, record.sweep.shares))
                write_record(folder / RECORD, record)
            losses = record.mean_losses(number)
            follows, more = next_exponent(losses), losses.keys() - set(first)
            todo = [follows] if follows is not None and len(more) < MOST_MORE else []
    record = finished(record, sweep)
    write_record(folder / RECORD, record)
    return record


def _opened(folder: Path, asked: TuneRecord) -> TuneRecord:
    """The record in a folder, or a new one.

    Raises:
        UserError: it is of another sweep.
    """
    try:
        found = read_tune(folder / RECORD)
    except FileNotFoundError:
        return asked
    for key, value in asked.sweep:
        if (other := getattr(found.sweep, key)) != value:
            raise UserError(f"{folder}: its trials have {key} {other}, not {value}; give another --folder")
    return found.model_copy(update={"best": None, "law": None})


def _with(record: TuneRecord, trial: TrialRecord) -> TuneRecord:
    """The record with one more trial, or one anew."""
    others = [other for other in record.trials if other.name != trial.name]
    return record.model_copy(update={"trials": (*others, trial)})


def _train(family: Family, trial: Trial, folder: Path, prepared: Prepared, shares: Mapping[str, float]) -> TrialRecord:
    """Train what is missing of a trial, and measure it."""
    rung = trial.rung
    family.work.progress.say(f"{rung.name}: {rung.shape.parameters:,} parameters, {rung.trained_tokens:,} tokens")
    try:
        (loss,) = train_small(family, rung, folder, shares, prepared).values()
    except DivergedError as error:
        family.work.progress.say(f"{rung.name} diverged: {error}")
        loss = math.inf
    return trial_record(trial, loss)
