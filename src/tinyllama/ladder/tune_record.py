"""`tune.json`: the trials of a sweep of peak learning rates, and the peak of the recipe that follows from them."""

from __future__ import annotations

import math
from statistics import fmean, stdev
from typing import TYPE_CHECKING, ClassVar

from tinyllama.errors import ModelError
from tinyllama.record_files import FileRecord, read_record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tinyllama.design.tuning import Sweep, Trial

_REMEDY = "move the file away, and run `tinyllama tune` again, which trains nothing twice"


class SweepRecord(FileRecord):
    """What all trials have in common; with something else, they need another folder."""

    recipe: str
    model: str
    peak: float
    """The recipe's own."""
    transfer: str
    base_width: int | None
    """Of muP; None in the standard parametrization, whose peaks transfer by the compute."""
    layers: int
    width: int
    parameters: int
    tokens: int
    sequences: int
    """Of a batch."""
    shares: dict[str, float]
    """Corpus → its part in the loss: the shares at the model's end."""


class TrialRecord(FileRecord):
    """A finished trial."""

    name: str
    """Of its folder."""
    exponent: int
    """Its peak is the recipe's times two to this power."""
    peak: float
    """Of the recipe."""
    own_peak: float
    """Of the trial itself, which has fewer tokens."""
    seed: int
    loss: float | None
    """Held-out, in nats a token: the mean over the corpora; None if training diverged."""


class PeakRecord(FileRecord):
    """The peak that follows."""

    peak: float
    loss: float
    """The lowest mean loss of trials of one peak."""
    is_bracketed: bool
    """Whether a lower and a higher peak were tried."""
    keys: dict[str, str | int | float]
    """The recipe's keys, with dots, and their values for this peak."""


class TuneRecord(FileRecord):
    """A sweep of peaks."""

    FORMAT: ClassVar[int] = 1

    format: int = 1
    sweep: SweepRecord
    trials: tuple[TrialRecord, ...] = ()
    """Finished ones, as they were trained."""
    best: PeakRecord | None = None
    """None until all are finished."""

    @property
    def losses(self) -> dict[int, list[float]]:
        """Power of two → the losses of its trials, infinite if training diverged; from the lowest peak."""
        found: dict[int, list[float]] = {}
        for trial in sorted(self.trials, key=lambda trial: trial.exponent):
            found.setdefault(trial.exponent, []).append(math.inf if trial.loss is None else trial.loss)
        return found


def read_tune(path: Path) -> TuneRecord:
    """Read a `tune.json`.

    Raises:
        FileNotFoundError: there is none.
        ModelError: it cannot be read, or a key is wrong.
    """
    return read_record(TuneRecord, path, ModelError, _REMEDY)


def sweep_record(sweep: Sweep, trial: Trial) -> SweepRecord:
    """What all trials have in common, of which one is given."""
    goal, rung = sweep.goal, trial.rung
    is_mup = rung.recipe.parametrization == "mup"
    return SweepRecord(
        recipe=goal.recipe.name,
        model=goal.model,
        peak=goal.recipe.optimizer.learning_rate.peak,
        transfer=sweep.transfer.value,
        base_width=rung.recipe.base_width if is_mup else None,
        layers=rung.shape.layers,
        width=rung.shape.width,
        parameters=rung.shape.parameters,
        tokens=rung.trained_tokens,
        sequences=rung.sequences,
        shares={corpus: float(share) for corpus, share in goal.shares.items() if share},
    )


def trial_record(trial: Trial, loss: float) -> TrialRecord:
    """A finished trial; its loss is infinite or NaN if training diverged."""
    return TrialRecord(
        name=trial.rung.name,
        exponent=trial.exponent,
        peak=trial.peak,
        own_peak=trial.rung.recipe.optimizer.learning_rate.peak,
        seed=trial.seed,
        loss=loss if math.isfinite(loss) else None,
    )


def mean_losses(trials: Mapping[int, Sequence[float]]) -> dict[int, float]:
    """Power of two → mean loss."""
    return {exponent: fmean(losses) for exponent, losses in trials.items()}


def standard_error(losses: Sequence[float]) -> float | None:
    """Of the mean over seeds; None for one of them, or if one diverged."""
    if len(losses) < 2 or not all(map(math.isfinite, losses)):
        return None
    return stdev(losses) / math.sqrt(len(losses))
