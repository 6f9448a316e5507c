"""The seven commonsense tasks and the zero-shot scores published for TinyLlama.

Source of every number: the model card of TinyLlama v1.1. The harness behind them is EleutherAI's
lm-evaluation-harness, zero-shot, with length-normalized accuracy (`acc_norm`) where the table below says so.
"""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class CommonsenseTask(NamedTuple):
    """One task: the harness's name for it, the published table's, and the metric that counts."""

    name: str
    title: str
    metric: str


TASKS = (
    CommonsenseTask("hellaswag", "HellaSwag", "acc_norm"),
    CommonsenseTask("openbookqa", "OpenBookQA", "acc_norm"),
    CommonsenseTask("winogrande", "WinoGrande", "acc"),
    CommonsenseTask("arc_challenge", "ARC-c", "acc_norm"),
    CommonsenseTask("arc_easy", "ARC-e", "acc_norm"),
    CommonsenseTask("boolq", "BoolQ", "acc"),
    CommonsenseTask("piqa", "PIQA", "acc_norm"),
)
"""In the order of the published table."""


class PublishedRow(NamedTuple):
    """One published model: its training tokens and its scores in percent, in the order of `TASKS`."""

    model: str
    tokens: int
    scores: tuple[float, ...]
    average: float
    """As published; compare `recomputed`."""

    @property
    def recomputed(self) -> float:
        """The plain mean of the row's own scores, to the two decimals of the table."""
        return round(mean(self.scores), 2)

    @property
    def note(self) -> str | None:
        """A note where the published average is not the mean of the published scores; else None."""
        if self.recomputed == self.average:
            return None
        return f"published as {self.average:.2f}; the row's own scores average {self.recomputed:.2f}"


def mean(scores: Sequence[float]) -> float:
    """The plain mean over tasks, as the published table takes it: no weight by questions."""
    return fmean(scores)


PUBLISHED = (
    PublishedRow("Pythia-1.0B", 300 * 10**9, (47.16, 31.40, 53.43, 27.05, 48.99, 60.83, 69.21), 48.30),
    PublishedRow("TinyLlama-1.1B step-1431k-3T", 3 * 10**12, (59.20, 36.00, 59.12, 30.12, 55.25, 57.83, 73.29), 52.99),
    PublishedRow("TinyLlama-1.1B v1.1", 2 * 10**12, (61.47, 36.80, 59.43, 32.68, 55.47, 55.99, 73.56), 53.63),
    PublishedRow("TinyLlama-1.1B v1.1 math_code", 2 * 10**12, (60.80, 36.40, 60.22, 33.87, 55.20, 57.09, 72.69), 53.75),
    PublishedRow("TinyLlama-1.1B v1.1 chinese", 2 * 10**12, (58.23, 35.20, 59.27, 31.40, 55.35, 61.41, 73.01), 53.41),
)
"""From the model card of TinyLlama v1.1."""
PARAMETERS = 1_100_048_384
"""Weights of TinyLlama; the published scores are shown beside models of this size alone."""


def published_scores() -> dict[str, dict[str, float]]:
    """Model → task → percent, and `average` as published."""
    names = [task.name for task in TASKS]
    return {row.model: dict(zip(names, row.scores, strict=True)) | {"average": row.average} for row in PUBLISHED}
