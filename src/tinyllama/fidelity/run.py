"""The training of a model, opened for reading: recipe, plan, corpora, sampler and checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tinyllama.checkpoint.store import CheckpointStore, checkpoint_store
from tinyllama.corpus.manifest import TRAIN, open_corpus, prepared_versions
from tinyllama.errors import CorpusError, ModelError
from tinyllama.layout import FamilyLayout
from tinyllama.plan import Plan, compile_plan
from tinyllama.recipe import Recipe, load_recipe
from tinyllama.sampler import Sampler
from tinyllama.tokenizer.opening import open_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.corpus.rows import Rows
    from tinyllama.tokenizer.base import Tokenizer


@dataclass(frozen=True)
class OpenRun:
    """A model of a family; each part is read when it is asked for."""

    recipe: Recipe
    layout: FamilyLayout
    model: str
    """`base` or a variant's name."""

    @cached_property
    def plan(self) -> Plan:
        """The whole path of the model, the base's steps included."""
        return compile_plan(self.recipe, self.model)

    @property
    def first_step(self) -> int:
        """Steps that the model's own training begins after: 0, or the fork."""
        return self.plan.fork_step if self.plan.variant else 0

    @cached_property
    def store(self) -> CheckpointStore:
        """Its checkpoints."""
        return checkpoint_store(self.recipe, self.layout.root, self.model)

    @cached_property
    def _trained(self) -> Mapping[str, str]:
        from tinyllama.family.corpora import Trained  # imports every phase of a family
        from tinyllama.family.workspace import Workspace

        return Trained(Workspace(self.recipe, self.layout)).corpora_of(self.model)

    def corpus(self, name: str) -> PreparedCorpus:
        """A prepared corpus: the version that the checkpoints name, otherwise the newest.

        Raises:
            CorpusError: it is not here or not complete.
        """
        versions = [open_corpus(folder) for folder in prepared_versions(self.layout, name)]
        if not versions:
            raise CorpusError(f"{self.layout.corpus(name)}: no complete corpus is here; run `tinyllama prepare`")
        if len(versions) == 1:  # no checkpoint is asked for, which may be under a URL
            return versions[0]
        return next((corpus for corpus in versions if corpus.sha256 == self._trained.get(name)), versions[-1])

    @cached_property
    def corpora(self) -> dict[str, PreparedCorpus]:
        """The prepared corpora of the plan, which need not be compiled for them.

        Raises:
            CorpusError: one is not here or not complete.
        """
        return {name: self.corpus(name) for name in self.recipe.corpora_of(self.model)}

    @cached_property
    def rows(self) -> dict[str, Rows]:
        """The training rows of each partition of the plan."""
        partitions = self.plan.partitions.items()
        return {name: self.corpora[corpus].rows(TRAIN, context) for name, (corpus, context) in partitions}

    @cached_property
    def sampler(self) -> Sampler:
        """The sampler of the plan over the corpora."""
        return Sampler(self.plan, self.recipe.seed, {name: len(rows) for name, rows in self.rows.items()})

    @property
    def start_sha256(self) -> str | None:
        """SHA-256 of the imported weights, if the recipe starts from some."""
        if self.recipe.start is None:
            return None
        from tinyllama.train.import_start import imported_sha256  # imports torch

        return imported_sha256(self.recipe, self.layout.root)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The family's tokenizer."""
        return open_tokenizer(self.layout.tokenizer)

    def visits(self, partition: str, rows: range) -> list[list[int]]:
        """For each row, the steps, counted from 1, at which the plan serves it; twice for one that serves it twice."""
        steps: list[list[int]] = [[] for _ in rows]
        which, at = self.sampler.visits(partition, np.array(rows, np.int64))
        for index, step in zip(which.tolist(), at.tolist(), strict=True):
            steps[index].append(step + 1)
        return steps


def open_runs(folder: Path) -> list[OpenRun]:
    """The models of a family's folder, or the one whose folder is named.

    Raises:
        ModelError: the folder is neither.
        RecipeError: its recipe cannot be read.
    """
    for layout, models in ((FamilyLayout(folder), None), (FamilyLayout(folder.absolute().parent), [folder.name])):
        if layout.recipe.is_file():
            recipe = load_recipe(str(layout.recipe))
            known = recipe.models
            if set(models or known) <= set(known):
                return [OpenRun(recipe, layout, model) for model in models or known]
    raise ModelError(
        f"{folder}: is neither the folder of a family that was trained nor that of one of its models; name "
        "RUN or RUN/MODEL, such as runs/mini or runs/mini/base"
    )
