"""The recipe, paths and processes that every phase of a family uses."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tinyllama.checkpoint.store import checkpoint_store
from tinyllama.corpus.manifest import CORPUS_FOLDER
from tinyllama.errors import UserError
from tinyllama.family.progress import SILENT
from tinyllama.files import write_json
from tinyllama.folders import FolderKind, claim, claim_file, holds_only
from tinyllama.layout import BASE, REPORT_TITLE, FamilyLayout, average_of, is_batch_script
from tinyllama.plan import compile_plan
from tinyllama.prepare.tokenizer import is_tokenizer
from tinyllama.recipe import is_dumped_recipe
from tinyllama.record_files import holds_record, read_record
from tinyllama.tokenizer.opening import TOKENIZER_FILES

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from tinyllama.family.progress import Progress
    from tinyllama.recipe import Recipe
    from tinyllama.train.ranks import Ranks

_log = logging.getLogger(__name__)

_HEAD = 4096
"""Characters of a report in which its title is."""
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
        """`base`, the variants and the branches, each after its parent."""
        return self.recipe.models

    def replay(self, branch: str) -> range | None:
        """The steps of its parent that training a branch repeats first; None if it repeats none.

        These are the steps from the nearest checkpoint before the fork, if the parent is finished and kept none there.
        """
        name = self.recipe.parent(branch)
        parent, fork = compile_plan(self.recipe, name), compile_plan(self.recipe, branch).fork_step
        own, kept = (checkpoint_store(self.recipe, self.layout.root, model).steps() for model in (branch, name))
        if own or fork in kept or parent.steps not in kept:
            return None
        first = parent.fork_step if parent.variant else 0
        return range(max((step for step in kept if step <= fork), default=first), fork)

    def claim(self) -> None:
        """Check that nothing which other programs or people wrote is lost in the family's folder.

        Raises:
            UserError: the folder, or a file in it that the family would write, is not a family's.
        """
        layout = self.layout
        names = [
            path.relative_to(layout.root).parts[0] for path in (layout.seconds, layout.summary, layout.tokenizer,
            layout.imported_tokenizer, layout.corpora, layout.evaluation, layout.export(BASE), layout.slurm)
        ]  # fmt: skip
        claim(layout.root, FolderKind("a family", (*names, *self.models, *map(average_of, self.models)), _is_family))
        claim_file(layout.recipe, "the family's recipe", _is_recipe)
        claim_file(layout.report, "the family's report", _is_report)

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


def _is_family(root: Path) -> bool:
    """Whether a phase of this or an earlier version has written to a folder."""
    layout = FamilyLayout(root)
    return (
        is_tokenizer(layout.tokenizer)
        or (layout.recipe.is_file() and _is_recipe(layout.recipe))
        or any(map(CORPUS_FOLDER.is_ours, layout.corpora.glob("*")))
        or (layout.imported_tokenizer.is_dir() and holds_only(TOKENIZER_FILES, layout.imported_tokenizer))
        or any(map(is_batch_script, layout.slurm.glob("*.sbatch")))
        or layout.checkpoints(BASE).is_dir()
        or _is_seconds(layout.seconds)
    )


def _is_seconds(path: Path) -> bool:
    return holds_record(dict[str, float], path)


def _is_recipe(path: Path) -> bool:
    return is_dumped_recipe(path.read_bytes())


def _is_report(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as file:
        return REPORT_TITLE in file.read(_HEAD)
