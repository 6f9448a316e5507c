"""The rows of an optimizer step: a pure function of plan, seed and step."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tinyllama.errors import PlanError
from tinyllama.sampler.permutation import Permutation, permute_each

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tinyllama.plan import Plan


class StepRows(NamedTuple):
    """The rows of steps in training order, one entry per sequence."""

    corpus: NDArray[np.int64]
    """Index into the plan's corpora."""
    row: NDArray[np.int64]
    """Row in that corpus."""


class Sampler:
    """Computes the rows of any step directly; stateless and independent of the number of ranks.

    Each epoch visits every row of a corpus once, in the order of that epoch's permutation. Another permutation mixes
    the corpora within a step, so that every part of a batch is a fair sample of it.
    """

    def __init__(self, plan: Plan, seed: int, rows: Mapping[str, int]) -> None:
        """Bind a plan to corpora.

        Args:
            plan: number of sequences from each corpus in each step.
            seed: seed of all permutations.
            rows: number of rows of each partition, see `Plan.partitions`.

        Raises:
            PlanError: a corpus of the plan is missing or has no rows.
        """
        for name in plan.partitions:
            if rows.get(name, 0) < 1:
                raise PlanError(f"corpus {name} has no rows to train on; prepare it first")
        self._plan, self._seed = plan, seed
        self._rows = {name: rows[name] for name in plan.partitions}

    def step(self, step: int) -> StepRows:
        """Rows of a step: O(batch) at any step."""
        return self.span(step, step + 1)

    def span(self, first: int, end: int) -> StepRows:
        """Rows of the steps in [`first`, `end`), step by step."""
        parts = [self._span(*span) for span in self._plan.context_spans(first, end)]
        if len(parts) == 1:
            return parts[0]
        return StepRows(np.concatenate([part.corpus for part in parts]), np.concatenate([part.row for part in parts]))

    def _span(self, first: int, end: int) -> StepRows:
        """Rows of steps of one context."""
        counts, names = self._plan.counts[first:end], self._plan.partitions_of(first)
        corpora = np.arange(counts.shape[1])
        corpus = np.repeat(np.tile(corpora, len(counts)), counts.ravel())
        row = np.empty(len(corpus), np.int64)
        for index in corpora.tolist():
            taken, count = int(self._plan.taken[first, index]), int(counts[:, index].sum())
            row[corpus == index] = self._part(names[index], taken, count)
        order = self._mixing(first, end)
        return StepRows(corpus[order], row[order])

    def visits(self, partition: str, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The steps (counted from 0) at which the plan visits some rows of a partition: O(rows) an epoch, no walk.

        Returns:
            Of each visit, in order of epochs: index into `rows`, and step.
        """
        plan = self._plan
        if partition not in self._rows or not plan.steps:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        corpus, context = plan.partitions[partition]
        steps, index, size = np.flatnonzero(plan.contexts == context), plan.corpora.index(corpus), self._rows[partition]
        taken = plan.taken[steps, index]
        end = int(taken[-1]) + int(plan.counts[steps[-1], index])
        parts = [
            Permutation(size, f"{self._seed}/{partition}/{epoch}").inverse(rows) + epoch * size
            for epoch in range(-(-end // size))
        ]
        at = np.concatenate([np.empty(0, np.int64), *parts])
        which = np.tile(np.arange(len(rows)), len(parts))[at < end]
        return which, steps[np.searchsorted(taken, at[at < end], side="right") - 1]

    def _mixing(self, first: int, end: int) -> NDArray[np.int64]:
        """The order of the rows of a range of steps: each step's rows are shuffled within the step."""
        batch = self._plan.batch[first:end].astype(np.int64)
        before = np.cumsum(batch) - batch
        changes = (np.flatnonzero(np.diff(batch)) + 1).tolist()
        parts = []
        for start, stop in pairwise([0, *changes, len(batch)]):  # steps of equal size together
            keys = [f"{self._seed}/step/{first + offset}" for offset in range(start, stop)]
            parts.append((permute_each(int(batch[start]), keys) + before[start:stop, None]).ravel())
        return np.concatenate(parts)

    def _part(self, name: str, taken: int, count: int) -> NDArray[np.int64]:
        """Rows `taken` … `taken + count - 1` of one partition's infinite sequence of epochs."""
        size = self._rows[name]
        parts = [np.empty(0, np.int64)]
        while count:
            epoch, position = divmod(taken, size)
            here = min(count, size - position)
            permute = Permutation(size, f"{self._seed}/{name}/{epoch}")
            parts.append(permute(np.arange(position, position + here)))
            taken, count = taken + here, count - here
        return np.concatenate(parts)


def rank_part(sequences: int, rank: int, ranks: int) -> slice:
    """The part of a step's sequences that one rank computes.

    Ranks get consecutive parts, so their concatenation has the order of a single rank; sizes differ by at most one.
    """
    return slice(sequences * rank // ranks, sequences * (rank + 1) // ranks)
