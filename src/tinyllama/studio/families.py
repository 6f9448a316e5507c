"""The families in the studio's folders: what each of their models has done, how fast, and what is left."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from tinyllama.checkpoint.format import steps_saved
from tinyllama.errors import TrainingError, UserError
from tinyllama.layout import FamilyLayout
from tinyllama.monitor.status import family_seconds_left, model_state, planned_steps
from tinyllama.recipe import load_recipe
from tinyllama.report.figures import stage_spans
from tinyllama.report.run_data import RunData
from tinyllama.report.summary import FamilySummary
from tinyllama.report.tree import family_tree
from tinyllama.studio.columns import BLOCK, MetricColumns
from tinyllama.studio.curves import Curves, Wanted, curves
from tinyllama.studio.model_summary import contexts_of, untrained, with_metrics
from tinyllama.studio.summaries import CheckpointSummary, FamilyView
from tinyllama.train.process import read_process

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tinyllama.recipe import Recipe
    from tinyllama.studio.summaries import ModelSummary
    from tinyllama.train.process import TrainingProcess


class StudioFamily:
    """One family's folder; recipe and metrics are read again when they change."""

    def __init__(self, name: str, layout: FamilyLayout) -> None:
        self.id, self.layout = name, layout
        self._columns: dict[str, MetricColumns] = {}
        self._recipe: Recipe | None = None
        self._fault: tuple[int, UserError] | None = None
        self._stamp = 0
        self._checkpoints: dict[str, list[int]] = {}
        self._processes: dict[str, tuple[int, TrainingProcess | None]] = {}
        self._steps: dict[str, int] = {}
        self._outline: FamilyView | None = None
        self._seen: dict[str, tuple[tuple[int, ...], tuple[ModelSummary, float]]] = {}
        self._guard = threading.RLock()
        self.version = 0
        """Rises with every change that was read."""

    @property
    def behind(self) -> bool:
        """Whether there is more to read at once, as when a long run is opened for the first time."""
        return any(columns.behind > BLOCK and not columns.error for columns in list(self._columns.values()))

    @property
    def recipe(self) -> Recipe:
        """The recipe that its checkpoints were made with.

        Raises:
            UserError: it cannot be read.
        """
        try:
            stamp = self.layout.recipe.stat().st_mtime_ns
        except OSError:
            raise UserError(
                f"{self.layout.root}: is no longer the folder of a family; its recipe.yaml is gone"
            ) from None
        if self._fault is not None and self._fault[0] == stamp:  # whose parsing takes long
            raise self._fault[1].with_traceback(None)
        if self._recipe is None or stamp != self._stamp:
            try:
                recipe = load_recipe(str(self.layout.recipe))
            except UserError as error:
                self._fault = stamp, error
                raise
            if self._recipe is not None and list(recipe.corpora) != list(self._recipe.corpora):
                self.close()
            self._steps = {model: planned_steps(recipe, model) for model in recipe.models}
            self._recipe, self._stamp, self._outline = recipe, stamp, None
            self._seen.clear()
        return self._recipe

    def update(self, most: int = BLOCK) -> None:
        """Read what training appended, at most about `most` bytes for each model.

        Raises:
            UserError: the recipe cannot be read.
        """
        with self._guard:
            self.version += self._update(most)

    def _update(self, most: int) -> bool:
        """Whether anything changed."""
        changed = False
        for model in self.recipe.models:
            changed |= self._look_for_checkpoints(model) | self._look_for_a_process(model)
            if model not in self._columns:
                if not self.layout.metrics(model).is_file():
                    continue
                folder = self.layout.metric_columns(model)
                self._columns[model] = MetricColumns(self.layout.metrics(model), list(self.recipe.corpora), folder)
                changed = True
            changed |= self._columns[model].update(most)
        return changed

    def summary(self, *, update: bool = True) -> FamilyView:
        """How far the models are.

        Args:
            update: read what training appended before.
        """
        try:
            recipe = self.recipe
            if update:
                self.update()
        except UserError as error:
            return FamilyView(self.id, str(self.layout.root), error=str(error))
        with self._guard:  # another thread may load a recipe with more models
            outline = self._outlined(recipe)
            models = [self._model(recipe, model) for model in outline.models]
        left = family_seconds_left(
            (model.state, model.end_tokens - max(model.tokens, model.start_tokens), model.tokens_per_second)
            for model in models
        )
        return replace(outline, models=models, seconds_left=left)

    def _outlined(self, recipe: Recipe) -> FamilyView:
        """What the recipe says, before any step."""
        if self._outline is None:
            self._outline = FamilyView(
                id=self.id,
                folder=str(self.layout.root),
                name=recipe.name,
                description=recipe.description,
                parameters=recipe.model.parameters,
                context=recipe.model.context,
                corpora=list(recipe.corpora),
                models=[untrained(recipe, model) for model in recipe.models],
                stages=[(stage.name, start, end) for stage, start, end in stage_spans(recipe)],
                tree=family_tree(RunData(recipe, FamilySummary(), {}, {}, {})),
            )
        return self._outline

    def curves(self, wanted: Wanted, models: Sequence[str] = ()) -> dict[str, Curves]:
        """The curves of some models, or of all, that have metrics.

        Raises:
            UserError: the recipe cannot be read.
        """
        self.update()
        recipe = self.recipe
        return {
            model: curves(columns, recipe.corpora_of(model), contexts_of(recipe, model), wanted)
            for model, columns in list(self._columns.items())
            if not models or model in models
        }

    def close(self) -> None:
        """Let other processes write the copies of metrics."""
        with self._guard:
            for columns in self._columns.values():
                columns.close()
            self._columns.clear()

    def _look_for_checkpoints(self, model: str) -> bool:
        steps = steps_saved(self.layout.checkpoints(model))
        changed = self._checkpoints.get(model, []) != steps
        self._checkpoints[model] = steps
        return changed

    def _look_for_a_process(self, model: str) -> bool:
        path = self.layout.process(model)
        try:
            stamp = path.stat().st_mtime_ns
        except OSError:
            stamp = 0
        known = self._processes.get(model)
        if known is not None and known[0] == stamp:
            return False
        process = None
        with suppress(TrainingError):  # a damaged file tells nothing
            process = read_process(path)
        self._processes[model] = stamp, process
        return known is not None

    def _model(self, recipe: Recipe, outline: ModelSummary) -> ModelSummary:
        name, layout = outline.name, self.layout
        known = self._checkpoints.get(name, [])
        columns = self._columns.get(name)
        model, slowest = replace(outline, checkpoints=[CheckpointSummary(step, None) for step in known]), 0.0
        if columns is not None:
            key = columns.history, columns.version, columns.behind, *known
            if name not in self._seen or self._seen[name][0] != key:
                self._seen[name] = key, with_metrics(model, columns, recipe, layout)
            model, slowest = self._seen[name][1]
        _, process = self._processes.get(name, (0, None))
        silent = None
        with suppress(OSError):
            silent = max(0.0, time.time() - layout.metrics(name).stat().st_mtime)
        is_complete, has_all_tokens = self._steps[name] in known, model.tokens >= model.end_tokens
        state, reason = model_state(process, slowest, silent, is_complete=is_complete, has_all_tokens=has_all_tokens)
        speed = model.tokens_per_second
        left = (model.end_tokens - model.tokens) / speed if speed and state == "training" else None
        return replace(model, state=state, reason=reason, seconds_left=left)


class StudioFamilies:
    """All families in some folders: each is a family's, or holds families' folders."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._known: dict[Path, StudioFamily] = {}
        self._guard = threading.Lock()

    def all(self) -> list[StudioFamily]:
        """The families that are there now, by name; their ids stay while the studio runs."""
        with self._guard:
            return self._all()

    def _all(self) -> list[StudioFamily]:
        there = list(dict.fromkeys(self._found()))
        for root in self._known.keys() - set(there):
            self._known.pop(root).close()
        for root in there:
            if root not in self._known:
                taken = {family.id for family in self._known.values()}
                names = (root.name if not number else f"{root.name}~{number + 1}" for number in range(len(taken) + 1))
                name = next(name for name in names if name not in taken)
                self._known[root] = StudioFamily(name, FamilyLayout(root))
        return [self._known[root] for root in there]

    def get(self, name: str) -> StudioFamily:
        """A family by its id.

        Raises:
            UserError: there is none.
        """
        for family in self.all():
            if family.id == name:
                return family
        raise UserError(f"no family is called {name}; it may have been moved or deleted")

    def close(self) -> None:
        """Let other processes write the copies of metrics."""
        with self._guard:
            for family in self._known.values():
                family.close()

    def _found(self) -> Iterator[Path]:
        for folder in self._folders:
            if FamilyLayout(folder).recipe.is_file():
                yield folder.absolute()
                continue
            with suppress(OSError):
                for inner in sorted(folder.iterdir()):
                    if FamilyLayout(inner).recipe.is_file():
                        yield inner.absolute()
