"""Which rows of a corpus were visited: one byte a row, an epoch at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Visits:
    """Proves that a corpus is read epoch by epoch, each row once in each.

    Marks may come in any order and from several threads. That no row came twice is seen by counting: an epoch in
    which as many rows are marked as were visited has visited each once.
    """

    def __init__(self, name: str, rows: int) -> None:
        self.name, self.rows = name, rows
        self.problem = ""
        """What is wrong first; empty while all is well."""
        self.epochs = 0
        """Whole epochs."""
        self.visited = 0
        """Visits of the running epoch."""
        self._seen = np.zeros(rows, np.bool_)

    def copy(self) -> Visits:
        """The same state, to go on along another variant."""
        other = Visits(self.name, self.rows)
        other.problem, other.epochs, other.visited = self.problem, self.epochs, self.visited
        other._seen[:] = self._seen
        return other

    @property
    def until_whole(self) -> int:
        """Visits that the running epoch still needs."""
        return self.rows - self.visited

    def mark(self, rows: NDArray[np.int64]) -> None:
        """Note visits of the running epoch; count them afterwards by `add`."""
        self._seen[rows] = True

    def add(self, count: int) -> None:
        """Count visits that were marked."""
        self.visited += count

    def cross(self, rows: NDArray[np.int64]) -> None:
        """Note the visits of a step in which the running epoch ends, in any order."""
        values, counts = np.unique(rows, return_counts=True)
        if len(rows) >= self.until_whole:
            self.check()
        while int(counts.sum()) >= self.until_whole:
            missing = np.flatnonzero(~self._seen)
            found = np.isin(missing, values[counts > 0])
            if not found.all():
                self._fail(f"row {missing[~found][0]} is lost in epoch {self.epochs + 1}")
                return
            counts[np.searchsorted(values, missing)] -= 1
            self._seen[:] = False
            self.epochs, self.visited = self.epochs + 1, 0
        if (counts > 1).any() or self._seen[values[counts > 0]].any():
            self._fail(f"row {values[counts.argmax()]} is repeated in epoch {self.epochs + 1}")
        self.mark(values[counts > 0])
        self.add(int(counts.sum()))

    def check(self) -> None:
        """Compare the rows marked in the running epoch with the visits counted."""
        marked = int(np.count_nonzero(self._seen))
        if marked != self.visited:
            self._fail(
                f"{self.visited - marked} of {self.visited:,} visits in epoch {self.epochs + 1} are repeated rows"
            )

    def _fail(self, problem: str) -> None:
        self.problem = self.problem or problem
