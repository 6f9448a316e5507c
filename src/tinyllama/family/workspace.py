"""The recipe, paths and processes that every phase of a family uses."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tinyllama.family.progress import SILENT
from tinyllama.files import write_json
from tinyllama.layout import BASE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tinyllama.family.progress import Progress
    from tinyllama.layout import FamilyLayout
    from tinyllama.recipe import Recipe
    from tinyllama.train import Ranks

_NOTHING_DONE = 1.0
"""Seconds; a phase that was already done takes less."""


@dataclass(frozen=True)
class Workspace:
    """One recipe in one folder."""

    recipe: Recipe
    layout: FamilyLayout
    """The paths of all outputs in the folder."""
    root: Path = field(default_factory=Path)
    """Base of relative paths in the recipe."""
    progress: Progress = SILENT
    """Receives messages and counts."""
    ranks: Ranks | None = None
    """The processes that train together; None for a single process. Rank 0 writes."""

    @property
    def models(self) -> list[str]:
        """`base` and the variants."""
        return [BASE, *self.recipe.variants]

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add a block's duration to the record of time per phase, unless the phase was already done."""
        began = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - began
            if (phase not in self.seconds or seconds > _NOTHING_DONE) and (self.ranks is None or self.ranks.first):
                total = self.seconds.get(phase, 0.0) + seconds
                write_json(self.layout.seconds, self.seconds | {phase: round(total, 2)})

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds per phase, summed over all runs of the command."""
        path = self.layout.seconds
        recorded: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return recorded
