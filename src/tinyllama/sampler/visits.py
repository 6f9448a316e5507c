"""The visited rows of a corpus: one byte per row, one epoch at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Visits:
    """Verifies that a corpus is read epoch by epoch, and that each epoch visits each row once.

    Marks may come in any order and from several threads. Counting detects repeated rows: if the number of marked rows
    equals the number of visits, no row was visited twice.
    """

    def __init__(self, name: str, rows: int) -> None:
        self.name, self.rows = name, rows
        self.problem = ""
        """The first error; empty if there is none."""
        self.epochs = 0
        """Completed epochs."""
        self.visited = 0
        """Visits in the current epoch."""
        self._seen = np.zeros(rows, np.bool_)

    def copy(self) -> Visits:
        """A copy of the state, to continue with another variant."""
        other = Visits(self.name, self.rows)
        other.problem, other.epochs, other.visited = self.problem, self.epochs, self.visited
        other._seen[:] = self._seen
        return other

    @property
    def until_whole(self) -> int:
        """Visits that remain in the current epoch."""
        return self.rows - self.visited

    def mark(self, rows: NDArray[np.int64]) -> None:
        """Mark rows visited in the current epoch; count them afterwards with `add`."""
        if not self._lacks(rows):
            self._seen[rows] = True

    def add(self, count: int) -> None:
        """Count marked visits."""
        self.visited += count

    def cross(self, rows: NDArray[np.int64]) -> None:
        """Mark and count the visits, in any order, of a step in which the current epoch ends."""
        if self._lacks(rows):
            return
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
        """Compare the number of marked rows in the current epoch with the number of visits."""
        marked = int(np.count_nonzero(self._seen))
        if marked != self.visited:
            self._fail(
                f"{self.visited - marked} of {self.visited:,} visits in epoch {self.epochs + 1} are repeated rows"
            )

    def _lacks(self, rows: NDArray[np.int64]) -> bool:
        """Whether one of the rows does not exist, which is an error."""
        last = int(rows.max(initial=0))
        if last >= self.rows:
            self._fail(f"row {last} does not exist")
        return last >= self.rows

    def _fail(self, problem: str) -> None:
        self.problem = self.problem or problem
