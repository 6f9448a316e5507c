"""The recipe, paths and processes that every phase of a family uses."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tinyllama.errors import UserError
from tinyllama.family.progress import SILENT
from tinyllama.files import write_json
from tinyllama.layout import BASE
from tinyllama.record_files import read_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from tinyllama.family.progress import Progress
    from tinyllama.layout import FamilyLayout
    from tinyllama.recipe import Recipe
    from tinyllama.train.ranks import Ranks

_log = logging.getLogger(__name__)

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
    def device(self) -> torch.device:
        """What this process computes on.

        Raises:
            UserError: `hardware.device` does not exist here.
        """
        from tinyllama.model.devices import choose_device  # imports torch

        return choose_device(self.recipe.hardware.device) if self.ranks is None else self.ranks.device

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
            if self.ranks is None or self.ranks.first:
                recorded = self.seconds
                if phase not in recorded or seconds > _NOTHING_DONE:
                    total = recorded.get(phase, 0.0) + seconds
                    write_json(self.layout.seconds, recorded | {phase: round(total, 2)})

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds per phase, summed over all runs of the command; empty, with a warning, if the file is damaged."""
        try:
            return read_record(dict[str, float], self.layout.seconds, UserError, "the times are recorded anew")
        except FileNotFoundError:
            return {}
        except UserError as error:  # a record of times is not worth a failed training or report
            _log.warning("%s", error)
            return {}
