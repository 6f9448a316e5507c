"""Whole sequences from fractional shares, never a full sequence away from the quota.

Each corpus has a quota curve Q(x): the sequences it should have had when x were seen. Its j-th sequence may be
taken once Q exceeds j - 1 and must be taken when Q reaches j. Filling every step with the released sequences
whose deadlines come first keeps every corpus at the floor or the ceiling of its quota at every step, so
|taken - quota| < 1, counts are never negative, and they sum to the batch.

Why it works: the quota itself is a fractional assignment of unit jobs to steps inside their windows, so an integral
one exists (bipartite matching), and for unit jobs with release times and deadlines earliest-deadline-first
finds one (Jackson 1955; for apportionment: Tijdeman 1980, Steiner & Yeomans 1993). All arithmetic is exact.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, lcm
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray


_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class QuotaCurve:
    """One corpus's cumulative quota, in sequences, as an exact function of sequences seen since `start`.

    The share moves linearly from `before` to `after` over `ramp` sequences (a fraction of a sequence is
    allowed) and then stays. All integers are over the common `unit`.
    """

    unit: int
    start: int
    offset: int
    linear: int
    quadratic: int
    ramp: Fraction
    after_linear: int
    after_offset: int

    def at(self, seen: int) -> int:
        """Quota after `seen` sequences, in 1/`unit` sequences."""
        elapsed = seen - self.start
        if elapsed * self.ramp.denominator < self.ramp.numerator:  # in whole numbers, which are faster
            return self.offset + elapsed * (self.linear + elapsed * self.quadratic)
        return self.after_offset + elapsed * self.after_linear

    def reaches(self, whole: int, seen: int) -> float:
        """First number of sequences seen, from `seen` on, at which the quota is at least `whole`."""
        goal = whole * self.unit
        ramp_end = self.start + -int(-self.ramp // 1)
        if seen < ramp_end and self.at(ramp_end) >= goal:
            ahead = 1
            while self.at(min(seen + ahead, ramp_end)) < goal:  # it is near, so that few are tried
                ahead *= 2
            near = range(seen + ahead // 2, min(seen + ahead, ramp_end))
            return near.start + bisect_left(near, goal, key=self.at)
        if self.after_linear == 0:
            return float("inf")
        return self.start - (self.after_offset - goal) // self.after_linear


def quota_curve(
    before: Fraction, after: Fraction, *, ramp: Fraction, start: int = 0, offset: Fraction = Fraction(0)
) -> QuotaCurve:
    """The curve of a share that moves from `before` to `after` over `ramp` sequences from `start` on.

    The quota at distance y from the start is offset + before·y + (after - before)·g(y), where g(y) is
    y²/(2·ramp) inside the ramp and y - ramp/2 after it.
    """
    rise = after - before
    quadratic = rise / (2 * ramp) if ramp else Fraction(0)
    after_offset = offset - rise * ramp / 2
    terms = (offset, before, quadratic, after, after_offset)
    unit = lcm(*(term.denominator for term in terms))
    scaled = [int(term * unit) for term in terms]
    return QuotaCurve(
        unit=unit,
        start=start,
        offset=scaled[0],
        linear=scaled[1],
        quadratic=scaled[2],
        ramp=ramp,
        after_linear=scaled[3],
        after_offset=scaled[4],
    )


def allot(curves: Sequence[QuotaCurve], seen: int, batches: Iterable[int], taken: Sequence[int]) -> NDArray[np.int64]:
    """Cumulative sequences taken from each corpus after each step.

    Args:
        curves: quota of each corpus; together they sum to the sequences seen.
        seen: sequences seen before the first step.
        batches: sequences in each step.
        taken: sequences already taken from each corpus.

    Returns:
        [steps, curves].
    """
    sizes = list(batches)
    single, rest = _past_ramps(curves, seen, sizes)
    held = list(taken)
    result = []
    for batch in sizes[:single]:
        seen += batch
        free = seen
        candidates = []
        for index, curve in enumerate(curves):
            floor, part = divmod(curve.at(seen), curve.unit)
            if held[index] <= floor:
                held[index] = floor
                if part:
                    candidates.append(index)
            free -= held[index]
        if free:
            candidates.sort(key=lambda index: (curves[index].reaches(held[index] + 1, seen), index))
            for index in candidates[:free]:
                held[index] += 1
        result.append(tuple(held))
    whole = np.array(result, np.int64).reshape(len(result), len(curves))
    return np.concatenate([whole, rest])


def _past_ramps(curves: Sequence[QuotaCurve], seen: int, batches: list[int]) -> tuple[int, NDArray[np.int64]]:
    """The steps past all ramps at once, as `allot` returns them, after the number of steps before them.

    Where each quota grows by a sequence or more in each step, what was held before does not matter: every corpus is at
    its floor or gets one more, by the deadlines. There are no such steps if this does not hold at one of them.
    """
    after = seen + np.cumsum(batches, dtype=np.int64)
    first = int(np.searchsorted(after, max(curve.start + ceil(curve.ramp) for curve in curves)))
    end, nothing = int(after[-1]) if batches else 0, np.empty((0, len(curves)), np.int64)
    if any(abs(c.after_offset) + (end + c.start) * c.after_linear + 2 * c.unit >= 1 << 62 for c in curves):
        return len(batches), nothing  # whole numbers of any size, one by one
    unit, slope, offset, start = np.array(
        [(c.unit, c.after_linear, c.after_offset, c.start) for c in curves], np.int64
    ).T
    floor, part = np.divmod(offset + (after[first:, None] - start) * slope, unit)
    if (floor[1:] < floor[:-1] + (part[:-1] > 0)).any():
        return len(batches), nothing
    deadline = np.where(slope > 0, start - (offset - (floor + 1) * unit) // np.maximum(slope, 1), _NEVER)
    order = np.where(part > 0, deadline, _NEVER).argsort(axis=1, kind="stable").argsort(axis=1)
    held = floor + ((order < (after[first:] - floor.sum(axis=1))[:, None]) & (part > 0))
    return min(first + 1, len(batches)), held[1:]
