"""A run's curves with a limited number of points: each is a bucket of steps with its least and greatest value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tinyllama.studio.columns import MetricColumns

Numbers = list[float | None]
"""None stands for a value that is not finite, or not there."""

MEANS = ("lr", "grad_norm", "tokens_per_second", "mfu", "memory", "seconds")
_DIGITS = 6
"""Significant digits that the page gets."""


@dataclass(frozen=True)
class HeldOutCurve:
    """Held-out losses on one corpus."""

    tokens: list[int]
    losses: Numbers
    """In nats a token."""


class Wanted(NamedTuple):
    """Which curves a page asks for."""

    span: tuple[int, int]
    """The tokens after which steps are shown, and up to which."""
    points: int
    """Most points in a curve; where there are more steps, buckets of equal tokens take their place."""
    after: int = -1
    """Tokens up to which the points that the page has stay; -1 if it has none."""
    width: int = 0
    """Of the buckets that it has."""
    history: int = 0
    """Of what it has."""


@dataclass(frozen=True)
class Curves:
    """One model's curves between two numbers of tokens, or what came to them."""

    after: int
    """Tokens up to which the points that a page has stay, and these follow; -1 if these are all."""
    width: int
    """Tokens that a bucket spans; 0 if each step is a point."""
    history: int
    """See `MetricColumns.history`."""
    version: int
    """Of the metrics."""
    tokens: list[int]
    """Seen after the last step of each bucket."""
    steps: list[int]
    """The last step of each bucket."""
    loss: Numbers
    """Mean of the bucket's updates; None where all were skipped."""
    low: Numbers
    """Least loss of the bucket."""
    high: Numbers
    """Greatest loss of the bucket."""
    batch: Numbers
    """Tokens in the last step."""
    means: dict[str, Numbers]
    """Mean over the bucket of the columns in MEANS."""
    shares: dict[str, Numbers]
    """Corpus → its part of the bucket's sequences, skipped steps included."""
    held_out: dict[str, HeldOutCurve]
    steps_per_point: int
    """The most steps in a bucket."""


def curves(columns: MetricColumns, corpora: Sequence[str], contexts: Mapping[str, int], wanted: Wanted) -> Curves:
    """The curves between two numbers of tokens.

    While a run grows, its buckets keep their width until there are twice as many as asked for; so a page needs the last
    bucket alone, which may have grown, and what follows it.

    Args:
        columns: the model's metrics.
        corpora: those that the model reads.
        contexts: stage → tokens in a sequence.
        wanted: the part to give.
    """
    span, points = wanted.span, wanted.points
    with columns.unchanged():
        first, end = (columns.place("tokens", tokens) for tokens in span)
        origin, length = _extent(columns, first, end)
        width = 0 if end - first <= points else length // points + 1
        fits = length // wanted.width < 2 * points if wanted.width else end - first <= 2 * points
        after = wanted.after if fits and wanted.history == columns.history else -1
        if after >= 0:
            width, first = wanted.width, max(first, columns.place("tokens", after))
        tokens = columns.part("tokens", first, end)
        starts = _starts(tokens, origin, width)
        last = np.append(starts, len(tokens)).astype(np.int64)[1:] - 1

        def part(name: str) -> NDArray[np.generic]:
            return columns.part(name, first, end)  # one at a time, since each may be a copy

        loss, batch = part("loss"), part("batch")
        totals = np.maximum(_sums(batch, starts), 1)
        return Curves(
            after=after,
            width=width,
            history=columns.history,
            version=columns.version,
            tokens=tokens[last].tolist(),
            steps=part("step")[last].tolist(),
            loss=_numbers(_mean(loss, starts)),
            low=_numbers(np.fmin.reduceat(loss, starts) if len(starts) else loss),
            high=_numbers(np.fmax.reduceat(loss, starts) if len(starts) else loss),
            batch=_numbers(
                batch[last].astype(np.float64) * tokens_per_sequence(columns, contexts, part("stage")[last])
            ),
            means={name: _numbers(_mean(part(name), starts)) for name in MEANS},
            shares={name: _numbers(_sums(part(name), starts) / totals) for name in corpora},
            held_out=_held_out(columns, (max(span[0], after), span[1]), points),
            steps_per_point=int(np.diff(np.append(starts, len(loss))).max(initial=1)),
        )


def _extent(columns: MetricColumns, first: int, end: int) -> tuple[int, int]:
    """Tokens after the first of some steps, and how many more after the last."""
    if first == end:
        return 0, 0
    begin, last = (int(columns.part("tokens", at, at + 1)[0]) for at in (first, end - 1))
    return begin, last - begin


def tokens_per_sequence(
    columns: MetricColumns, contexts: Mapping[str, int], stages: NDArray[np.generic]
) -> NDArray[np.float64]:
    """Tokens in a sequence of each step, by the values of the column `stage`; NaN in a stage that the recipe lacks."""
    return np.array([contexts.get(name, np.nan) for name in columns.stages], np.float64)[stages.astype(np.int64)]


def _starts(tokens: NDArray[np.generic], origin: int, width: int) -> NDArray[np.int64]:
    """The first row of each bucket."""
    if not width or not len(tokens):
        return np.arange(len(tokens))
    buckets = (tokens.astype(np.int64) - origin) // width
    return np.append(0, np.flatnonzero(np.diff(buckets)) + 1)


def _sums(values: NDArray[np.generic], starts: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.add.reduceat(values.astype(np.float64), starts) if len(starts) else np.empty(0)


def _mean(values: NDArray[np.generic], starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean of the finite values of each bucket; NaN where there are none."""
    finite = np.isfinite(values)
    sums, counts = _sums(np.where(finite, values, 0), starts), _sums(finite, starts)
    means = np.full(len(sums), np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def _held_out(columns: MetricColumns, span: tuple[int, int], points: int) -> dict[str, HeldOutCurve]:
    records = [record for record in columns.events if record.kind == "held_out" and span[0] < record.tokens <= span[1]]
    records = [*records[:: 1 + len(records) // points], *records[-1:]] if len(records) > points else records
    names = dict.fromkeys(name for record in records for name in record.losses)
    found = {}
    for name in names:
        chosen = [record for record in records if name in record.losses]
        losses = _numbers(np.array([record.losses[name] for record in chosen]))
        found[name] = HeldOutCurve([record.tokens for record in chosen], losses)
    return found


def _numbers(values: NDArray[np.generic]) -> Numbers:
    return [float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None for value in values.tolist()]
