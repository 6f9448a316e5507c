"""Which checkpoints of a model stay."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Retention:
    """Keeps the permanent steps, and the last of the others."""

    keep: int
    """How many of the steps that are not permanent stay."""
    permanent: frozenset[int] = frozenset()

    @property
    def most(self) -> int:
        """The largest number of checkpoints that stay."""
        return self.keep + len(self.permanent)

    def prunable(self, steps: Sequence[int]) -> list[int]:
        """Those of some steps, in order, whose checkpoints may be deleted."""
        others = [step for step in steps if step not in self.permanent]
        return others[: max(0, len(others) - self.keep)]

    def keeping(self, step: int) -> Retention:
        """The same with one more permanent step."""
        return replace(self, permanent=self.permanent | {step})
