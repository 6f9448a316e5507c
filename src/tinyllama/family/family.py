"""A family's folder and what belongs in it: tokenizer, corpora, runs."""

from __future__ import annotations

import json
import logging
import time
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from tinyllama.errors import SourceError
from tinyllama.family.background import BackgroundEvaluation
from tinyllama.files import write_json
from tinyllama.layout import BASE, FamilyLayout
from tinyllama.plan import compile_plan
from tinyllama.prepare.prepare import PrepareOptions, prepare_corpus
from tinyllama.prepare.tokenizer import imported_folder, obtain_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tinyllama.checkpoint.format import Checkpoint
    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.export import ParityResult
    from tinyllama.family.progress import Progress
    from tinyllama.model import Llama
    from tinyllama.recipe import Recipe
    from tinyllama.sources.rejected import Rejected
    from tinyllama.tokenizer.base import Tokenizer
    from tinyllama.train import Ranks, TrainingRun
    from tinyllama.train.metrics import Logger

_log = logging.getLogger(__name__)


class Family:
    """One recipe in one folder. Everything it makes is kept, and made again only if it would differ."""

    def __init__(  # noqa: PLR0913  # what it is, and where
        self,
        recipe: Recipe,
        folder: Path,
        root: Path,
        progress: Progress,
        *,
        ranks: Ranks | None = None,
        options: PrepareOptions = PrepareOptions(),  # noqa: B008  # a constant
    ) -> None:
        """Bind a recipe to a folder.

        Args:
            recipe: the family.
            folder: of everything it makes.
            root: what paths in the recipe are relative to.
            progress: receives messages and counts.
            ranks: the processes that work on it together, if there are several; the first writes.
            options: for the preparation of corpora.
        """
        self.recipe, self.folder, self.root, self.progress, self.ranks = recipe, folder, root, progress, ranks
        self._options = options
        self.missing: dict[str, str] = {}
        """Corpora whose source cannot be had → why."""

    @property
    def models(self) -> list[str]:
        """`base` and the variants."""
        return [BASE, *self.recipe.variants]

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, obtained or trained if it is not there."""
        self.progress.say("tokenizer")
        if self.recipe.tokenizer.imported and not imported_folder(self.folder / "tokenizer").is_dir():
            from tinyllama.family.import_model import open_start  # noqa: PLC0415  # imports torch

            open_start(self.recipe).write_tokenizer(imported_folder(self.folder / "tokenizer"))
        return obtain_tokenizer(self.recipe, self.folder / "tokenizer", self.root, _ignore)

    @cached_property
    def corpora(self) -> dict[str, PreparedCorpus]:
        """Every corpus that can be had, prepared if it is not there; the others are in `missing`."""
        prepared = {}
        for name in self.recipe.corpora:
            with self.progress.counting(f"corpus {name}") as count:
                try:
                    folder = self.folder / "corpora" / name
                    prepared[name] = prepare_corpus(
                        self.recipe, name, self.tokenizer, folder, self.root, count, self._options
                    )
                except SourceError as error:
                    self.missing[name] = str(error)
                    _log.warning("corpus %s: %s", name, error)
        return prepared

    def lacks(self, model: str) -> list[str]:
        """Corpora that a model needs and that cannot be had."""
        needed = set(self.recipe.base) | set(self.recipe.variants.get(model, {}))
        return sorted(needed - set(self.corpora))

    def run(self, model: str) -> TrainingRun:
        """The run that trains a model.

        Raises:
            SourceError: a corpus it needs cannot be had.
        """
        from tinyllama.evaluation.bits import held_out_losses  # noqa: PLC0415
        from tinyllama.train import Ranks, TrainingRun  # noqa: PLC0415  # imports torch
        from tinyllama.train.import_start import imported_sha256  # noqa: PLC0415  # imports torch

        if lacking := self.lacks(model):
            raise SourceError(f"{model} needs {', '.join(lacking)}: {self.missing[lacking[0]]}")

        def losses(trained: Llama) -> dict[str, float]:
            masking = self.recipe.document_masking
            return held_out_losses(trained, self.corpora, rows=self.recipe.evaluation.rows, document_masking=masking)

        plan = compile_plan(self.recipe, None if model == BASE else model)
        watch: list[Logger] = [self.progress.training(model, plan)]
        if (every := self.recipe.evaluation.tasks_every) is not None:
            watch.append(BackgroundEvaluation(self.folder / model, self.recipe.evaluation, every))
        return TrainingRun(
            recipe=self.recipe,
            plan=plan,
            family=self.folder,
            corpora=self.corpora,
            tokenizer_sha256=self.tokenizer.sha256,
            start_sha256=imported_sha256(self.recipe, self.folder) if self.recipe.start is not None else None,
            held_out_losses=losses,
            watch=watch,
            ranks=self.ranks or Ranks(),
        )

    def train(self, model: str) -> None:
        """Train a model to its end, from wherever it stands; imports the model that the recipe starts from."""
        from tinyllama.train import Ranks, is_finished, train  # noqa: PLC0415  # imports torch

        if self.recipe.start is not None:
            ranks = self.ranks or Ranks()
            with ranks.phase("the import of the model to start from; run `tinyllama import` before training"):
                ranks.run_on_rank0(self._import_missing)
        run = self.run(model)
        if is_finished(run):
            self.progress.say(f"{model}: trained already")
        elif self.recipe.hardware.compile:
            self.progress.say(f"training {model}; its first step compiles, which can take a minute")
        else:
            self.progress.say(f"training {model}")
        with self.timed(f"train {model}"):
            train(run)

    def _import_missing(self) -> None:
        """Import the model that the recipe starts from, unless that was done; one rank does, for all."""
        from tinyllama.checkpoint.store import checkpoint_store  # noqa: PLC0415  # imports torch

        if not checkpoint_store(self.recipe, self.folder, BASE).steps():
            self.import_start()

    def import_start(self) -> tuple[Checkpoint, ParityResult | None]:
        """Import the model that the recipe starts from, again if that was done; see `import_model`."""
        from tinyllama.family.import_model import import_model  # noqa: PLC0415  # imports torch

        return import_model(self.recipe, FamilyLayout(self.folder), lambda: self.tokenizer, self.progress)

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the seconds of a block to the family's record of time per phase, unless it found the phase done."""
        began = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - began
            if (phase not in self.seconds or seconds > _NOTHING_DONE) and (self.ranks is None or self.ranks.first):
                total = self.seconds.get(phase, 0.0) + seconds
                write_json(self.folder / "seconds.json", self.seconds | {phase: round(total, 2)})

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds spent per phase, over all runs of the command."""
        path = self.folder / "seconds.json"
        recorded: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return recorded


_NOTHING_DONE = 1.0
"""Seconds; to find that a phase was done before takes less."""


def _ignore(_rejected: Rejected) -> None:
    """Documents rejected while the tokenizer is trained are counted when their corpus is prepared."""
