"""Which rows an optimizer step sees: a pure function of plan, seed and step."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tinyllama.errors import PlanError
from tinyllama.sampler.permutation import Permutation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tinyllama.plan import Plan


class StepRows(NamedTuple):
    """The rows of one step in the order in which they are seen, one entry per sequence."""

    corpus: NDArray[np.int64]
    """Index into the plan's corpora."""
    row: NDArray[np.int64]
    """Row of that corpus."""


class Sampler:
    """Gives the rows of any step at once, without state, whatever came before and however many ranks there are.

    Inside a corpus each epoch visits every row once, in a permutation of its own. Inside a step the corpora are
    mixed by another permutation, so that every part of a batch is a fair sample of it.
    """

    def __init__(self, plan: Plan, seed: int, rows: Mapping[str, int]) -> None:
        """Bind a plan to corpora.

        Args:
            plan: what each step takes from each corpus.
            seed: of all permutations.
            rows: number of rows of each corpus.

        Raises:
            PlanError: a corpus of the plan is missing or has no row.
        """
        for name in plan.corpora:
            if rows.get(name, 0) < 1:
                raise PlanError(f"corpus {name} has no rows to train on; prepare it first")
        self._plan, self._seed = plan, seed
        self._rows = [rows[name] for name in plan.corpora]

    def step(self, step: int) -> StepRows:
        """Rows of a step: O(batch) at any step."""
        parts = [
            self._part(index, int(taken), int(count))
            for index, (taken, count) in enumerate(zip(self._plan.taken[step], self._plan.counts[step], strict=True))
        ]
        corpus = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        order = Permutation(len(corpus), f"{self._seed}/step/{step}")(np.arange(len(corpus)))
        return StepRows(corpus[order], np.concatenate(parts)[order])

    def _part(self, index: int, taken: int, count: int) -> NDArray[np.int64]:
        """Rows `taken` … `taken + count` of one corpus's endless sequence of epochs."""
        size, name = self._rows[index], self._plan.corpora[index]
        parts = [np.empty(0, np.int64)]
        while count:
            epoch, position = divmod(taken, size)
            here = min(count, size - position)
            permute = Permutation(size, f"{self._seed}/{name}/{epoch}")
            parts.append(permute(np.arange(position, position + here)))
            taken, count = taken + here, count - here
        return np.concatenate(parts)
