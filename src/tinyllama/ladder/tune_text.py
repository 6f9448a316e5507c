"""What a sweep of peaks found, in words and rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tinyllama.design.peak_law import FEWEST_CERTAIN
from tinyllama.design.rules import LEARNING_RATE_EXPONENT
from tinyllama.design.transfer import Transfer
from tinyllama.ladder.tune_record import standard_error
from tinyllama.recipe.quantities import format_count
from tinyllama.text import MISSING, listing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tinyllama.ladder.tune_record import PeakLawRecord, RungPeakRecord, SweepRecord, TuneRecord

_PUBLISHED = f"^{LEARNING_RATE_EXPONENT:.3f} (Bi et al. 2024, equation 1)"


def rows(record: TuneRecord, rung: int = 1) -> Iterator[tuple[str, ...]]:
    """A header, and a row for each peak on a rung: the recipe's, the trial's own, losses, how far from the best."""
    yield "peak LR of the recipe", "its own", "held-out loss", "± of the mean", "above the best"
    means = record.mean_losses(rung)
    lowest = min(means.values())
    peaks = {trial.exponent: (trial.peak, trial.own_peak) for trial in record.trials if trial.rung == rung}
    for exponent, losses in record.losses(rung).items():
        peak, own = peaks[exponent]
        mean, error = means[exponent], standard_error(losses)
        is_finite = math.isfinite(mean)
        yield (
            f"{peak:.3g}",
            f"{own:.3g}",
            f"{mean:.4f}" if is_finite else "diverged",
            MISSING if error is None else f"{error:.4f}",
            f"{mean / lowest - 1:+.2%}" if is_finite else MISSING,
        )


def transfer_text(record: TuneRecord) -> str:
    """What the trials are, and under which assumption their best peak is the recipe's."""
    sweep, law = record.sweep, record.law
    if law is not None:
        return "\n".join([
            *(
                f"each trial of rung {number}: {_size_text(rung)}, {rung.flops:.2e} FLOPs; its own best peak is "
                f"{rung.peak:.3g}"
                for number, rung in enumerate(law.rungs, 1)
            ),
            _law_text(law),
        ])  # fmt: skip
    trial = f"each trial: {_size_text(sweep)}"
    if sweep.transfer == Transfer.COMPUTE:
        return f"{trial}; the best peak is assumed to change with the compute C as C{_PUBLISHED}"
    return (
        f"{trial}; muP keeps the best peak at every width (Yang et al. 2022, who saw it kept by other depths, too), "
        f"and it is assumed to change with the tokens D as D{_PUBLISHED}"
    )


def _size_text(trial: SweepRecord | RungPeakRecord) -> str:
    return (
        f"{trial.layers} x {trial.width}, {format_count(trial.parameters, 3)} parameters, "
        f"{format_count(trial.tokens, 3)} tokens, {trial.sequences} sequences in a batch"
    )


def _law_text(law: PeakLawRecord) -> str:
    """The fitted exponent, how sure it is, and the published one."""
    sure = f"two rungs do not tell how sure that is, {FEWEST_CERTAIN} do"
    if law.exponent_interval is not None:
        low, high = law.exponent_interval
        sure = f"90% interval of the exponent {low:.3f} to {high:.3f}"
    return f"the best peak changes with the compute C as C^{law.exponent:.3f}; {sure}; published: C{_PUBLISHED}"


def outcome_text(record: TuneRecord) -> str:
    """The peak, and how sure it is."""
    best = record.best
    if best is None:
        return "the trials are not finished"
    text = f"best peak {best.peak:g}"
    if record.law is not None and record.law.peak_interval is not None:
        low, high = record.law.peak_interval
        text += f" (90% interval {low:.3g} to {high:.3g}, if the law holds from the rungs to {record.sweep.model})"
    text += f", the recipe has {record.sweep.peak:g}"
    if not best.is_bracketed:
        rungs = () if record.law is None else record.law.rungs
        ends = listing([f"rung {number}" for number, rung in enumerate(rungs, 1) if not rung.is_bracketed])
        best_trial = f"the best trial of {ends}" if ends else "the best trial"
        text += f"; {best_trial} is the last one on its side, so a better peak may lie beyond: give more --peaks"
    return f"{text}; set in the recipe:"
