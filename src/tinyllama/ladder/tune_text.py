"""What a sweep of peaks found, in words and rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tinyllama.design.rules import LEARNING_RATE_EXPONENT
from tinyllama.design.transfer import Transfer
from tinyllama.ladder.tune_record import mean_losses, standard_error
from tinyllama.recipe.quantities import format_count
from tinyllama.text import MISSING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tinyllama.ladder.tune_record import TuneRecord


def rows(record: TuneRecord) -> Iterator[tuple[str, ...]]:
    """A header, and a row for each peak: the recipe's, the trial's own, losses, and how far from the best."""
    yield "peak LR of the recipe", "its own", "held-out loss", "± of the mean", "above the best"
    means = mean_losses(record.losses)
    lowest = min(means.values())
    peaks = {trial.exponent: (trial.peak, trial.own_peak) for trial in record.trials}
    for exponent, losses in record.losses.items():
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
    sweep = record.sweep
    trial = (
        f"each trial: {sweep.layers} x {sweep.width}, {format_count(sweep.parameters, 3)} parameters, "
        f"{format_count(sweep.tokens, 3)} tokens, {sweep.sequences} sequences in a batch"
    )
    power = f"^{LEARNING_RATE_EXPONENT:.3f} (Bi et al. 2024, equation 1)"
    if sweep.transfer == Transfer.COMPUTE:
        return f"{trial}; the best peak is assumed to change with the compute C as C{power}"
    return (
        f"{trial}; muP keeps the best peak at every width (Yang et al. 2022, who saw it kept by other depths, too), "
        f"and it is assumed to change with the tokens D as D{power}"
    )


def outcome_text(record: TuneRecord) -> str:
    """The peak, and how sure it is."""
    best = record.best
    if best is None:
        return "the trials are not finished"
    text = f"best peak {best.peak:g}, the recipe has {record.sweep.peak:g}"
    if not best.is_bracketed:
        text += "; the best trial is the last one on its side, so a better peak may lie beyond: give more --peaks"
    return f"{text}; set in the recipe:"
