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
from math import lcm
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


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
        if elapsed < self.ramp:
            return self.offset + elapsed * (self.linear + elapsed * self.quadratic)
        return self.after_offset + elapsed * self.after_linear

    def reaches(self, whole: int, seen: int) -> float:
        """First number of sequences seen, from `seen` on, at which the quota is at least `whole`."""
        goal = whole * self.unit
        ramp_end = self.start + -int(-self.ramp // 1)
        if seen < ramp_end and self.at(ramp_end) >= goal:
            return seen + bisect_left(range(seen, ramp_end), goal, key=self.at)
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


def allot(
    curves: Sequence[QuotaCurve], seen: int, batches: Iterable[int], taken: Sequence[int]
) -> list[tuple[int, ...]]:
    """Cumulative sequences taken from each corpus after each step.

    Args:
        curves: quota of each corpus; together they sum to the sequences seen.
        seen: sequences seen before the first step.
        batches: sequences in each step.
        taken: sequences already taken from each corpus.

    Returns:
        One tuple a step, as long as `curves`.
    """
    held = list(taken)
    result = []
    for batch in batches:
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
    return result
