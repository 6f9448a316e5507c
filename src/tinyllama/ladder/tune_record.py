"""`tune.json`: the trials of a sweep of peak learning rates, and the peak of the recipe that follows from them."""

from __future__ import annotations

import math
from statistics import fmean, stdev
from typing import TYPE_CHECKING, ClassVar

from tinyllama.design.peak_law import TunedRung, fit_peaks
from tinyllama.design.rules import LEARNING_RATE_EXPONENT
from tinyllama.design.tuning import best_peak
from tinyllama.errors import ModelError
from tinyllama.record_files import FileRecord, read_record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tinyllama.design.rungs import Rung
    from tinyllama.design.tuning import Best, Sweep, Trial

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
    rungs: int = 1
    """Number of shapes; what follows is of the smallest one."""
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
    rung: int = 1
    """Number of its shape, from the smallest."""
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
    """The lowest mean loss of trials of one peak; of several rungs, the lowest of all."""
    is_bracketed: bool
    """Whether a lower and a higher peak were tried on every rung."""
    keys: dict[str, str | int | float]
    """The recipe's keys, with dots, and their values for this peak."""


class RungPeakRecord(FileRecord):
    """A rung of several, and its best peak."""

    layers: int
    width: int
    parameters: int
    tokens: int
    sequences: int
    """Of a batch."""
    flops: float
    """Of one trial."""
    peak: float
    """Of the trials themselves, not of the recipe."""
    loss: float
    """The lowest mean loss of trials of one peak."""
    is_bracketed: bool
    """Whether a lower and a higher peak were tried."""


class PeakLawRecord(FileRecord):
    """The law peak = a · C^exponent that was fitted to the best peaks of the rungs."""

    exponent: float
    exponent_interval: tuple[float, float] | None
    """Where it is with a probability of 90%, if the law holds; None for two rungs, which leave no residuals."""
    published_exponent: float
    """Of Bi et al. 2024, equation 1, for comparison."""
    flops: float
    """Of the recipe's model, at which the law gives its peak."""
    peak_interval: tuple[float, float] | None
    """Where that is with a probability of 90%, likewise."""
    rungs: tuple[RungPeakRecord, ...]
    """From the smallest."""


class TuneRecord(FileRecord):
    """A sweep of peaks."""

    FORMAT: ClassVar[int] = 1

    format: int = 1
    sweep: SweepRecord
    trials: tuple[TrialRecord, ...] = ()
    """Finished ones, as they were trained."""
    best: PeakRecord | None = None
    """None until all are finished."""
    law: PeakLawRecord | None = None
    """Likewise, and in a sweep of one rung."""

    def losses(self, rung: int) -> dict[int, list[float]]:
        """Power of two → the losses of its trials on a rung, infinite if training diverged; from the lowest peak."""
        found: dict[int, list[float]] = {}
        for trial in sorted(self.trials, key=lambda trial: trial.exponent):
            if trial.rung == rung:
                found.setdefault(trial.exponent, []).append(math.inf if trial.loss is None else trial.loss)
        return found

    def mean_losses(self, rung: int) -> dict[int, float]:
        """Power of two → mean loss of its trials on a rung."""
        return {exponent: fmean(losses) for exponent, losses in self.losses(rung).items()}


def read_tune(path: Path) -> TuneRecord:
    """Read a `tune.json`.

    Raises:
        FileNotFoundError: there is none.
        ModelError: it cannot be read, or a key is wrong.
    """
    return read_record(TuneRecord, path, ModelError, _REMEDY)


def sweep_record(sweep: Sweep, trial: Trial) -> SweepRecord:
    """What all trials have in common, of which one of the smallest rung is given."""
    goal, rung = sweep.goal, trial.rung
    is_mup = rung.recipe.parametrization == "mup"
    return SweepRecord(
        recipe=goal.recipe.name,
        model=goal.model,
        peak=goal.recipe.optimizer.learning_rate.peak,
        transfer=sweep.transfer.value,
        base_width=rung.recipe.base_width if is_mup else None,
        rungs=sweep.rungs,
        shares={corpus: float(share) for corpus, share in goal.shares.items() if share},
        **_size(rung),
    )


def _size(rung: Rung) -> dict[str, int]:
    """The keys that say what a trial is."""
    return {
        "layers": rung.shape.layers,
        "width": rung.shape.width,
        "parameters": rung.shape.parameters,
        "tokens": rung.trained_tokens,
        "sequences": rung.sequences,
    }


def trial_record(trial: Trial, loss: float) -> TrialRecord:
    """A finished trial; its loss is infinite or NaN if training diverged."""
    return TrialRecord(
        name=trial.rung.name,
        rung=trial.number,
        exponent=trial.exponent,
        peak=trial.peak,
        own_peak=trial.rung.recipe.optimizer.learning_rate.peak,
        seed=trial.seed,
        loss=loss if math.isfinite(loss) else None,
    )


def finished(record: TuneRecord, sweep: Sweep) -> TuneRecord:
    """The record with the peak that follows from its trials, and with the law that gives it if there are several rungs.

    Raises:
        PlanError: all trials of a rung diverged.
    """
    bests = [best_peak(sweep, record.mean_losses(number)) for number in range(1, sweep.rungs + 1)]
    law, peak = (None, bests[0].peak) if len(bests) == 1 else _law(sweep, bests)
    best = PeakRecord(
        peak=peak,
        loss=min(best.loss for best in bests),
        is_bracketed=all(best.is_bracketed for best in bests),
        keys=sweep.keys(peak),
    )
    return record.model_copy(update={"best": best, "law": law})


def _law(sweep: Sweep, bests: Sequence[Best]) -> tuple[PeakLawRecord, float]:
    """The law that is fitted to the best peaks of several rungs, and the recipe's peak by it."""
    rungs = tuple(_rung_peak(sweep.trial(0, 0, number), best) for number, best in enumerate(bests, 1))
    flops = sweep.goal.flops
    found = fit_peaks([TunedRung(rung.flops, rung.peak) for rung in rungs], flops)
    record = PeakLawRecord(
        exponent=found.exponent,
        exponent_interval=found.exponent_interval,
        published_exponent=LEARNING_RATE_EXPONENT,
        flops=flops,
        peak_interval=found.peak_interval,
        rungs=rungs,
    )
    return record, float(f"{found.peak:.3g}")


def _rung_peak(trial: Trial, best: Best) -> RungPeakRecord:
    """The best peak of a rung, whose trial with the recipe's own peak is given."""
    rung = trial.rung
    return RungPeakRecord(
        flops=rung.flops,
        peak=rung.recipe.optimizer.learning_rate.peak * 2**best.exponent,
        loss=best.loss,
        is_bracketed=best.is_bracketed,
        **_size(rung),
    )


def standard_error(losses: Sequence[float]) -> float | None:
    """Of the mean over seeds; None for one of them, or if one diverged."""
    if len(losses) < 2 or not all(map(math.isfinite, losses)):
        return None
    return stdev(losses) / math.sqrt(len(losses))
