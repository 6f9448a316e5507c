"""The families in the studio's folders: what each of their models has done, how fast, and what is left."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tinyllama.checkpoint.format import steps_saved
from tinyllama.errors import TrainingError, UserError
from tinyllama.layout import BASE, FamilyLayout
from tinyllama.recipe import load_recipe
from tinyllama.report.figures import stage_spans
from tinyllama.report.run_data import RunData
from tinyllama.report.summary import FamilySummary
from tinyllama.report.text import spike_text
from tinyllama.report.tree import family_tree
from tinyllama.studio.columns import BLOCK, MetricColumns
from tinyllama.studio.curves import Curves, curves, tokens_per_sequence
from tinyllama.studio.metric_blocks import COLUMNS
from tinyllama.studio.summaries import CheckpointSummary, FamilyView, ModelSummary, SpikeSummary
from tinyllama.train.process import read_process

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tinyllama.recipe import Recipe
    from tinyllama.studio.summaries import State

_RECENT = 200
"""Steps that the speed is measured over."""
_SILENT_SECONDS, _SILENT_STEPS = 30.0, 5.0
"""A run that records nothing for so long, and for so many times its last step, is taken for stopped."""
_FINISHED: State = "finished"
_SHOWN = 100
"""Newest spikes that are listed."""


class StudioFamily:
    """One family's folder; recipe and metrics are read again when they change."""

    def __init__(self, name: str, layout: FamilyLayout) -> None:
        self.id, self.layout = name, layout
        self._columns: dict[str, MetricColumns] = {}
        self._recipe: Recipe | None = None
        self._stamp = 0
        self._checkpoints: dict[str, list[int]] = {}
        self._processes: dict[str, int] = {}
        self._guard = threading.RLock()
        self.version = 0
        """Rises with every change that was read."""

    @property
    def behind(self) -> bool:
        """Whether there is more to read at once, as when a long run is opened for the first time."""
        return any(columns.behind > BLOCK for columns in list(self._columns.values()))

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
        if self._recipe is None or stamp != self._stamp:
            recipe = load_recipe(str(self.layout.recipe))
            if self._recipe is not None and list(recipe.corpora) != list(self._recipe.corpora):
                self.close()
            self._recipe, self._stamp = recipe, stamp
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
            changed |= self._look_for_checkpoints(model) | self._look_for_an_end(model)
            if model not in self._columns:
                if not self.layout.metrics(model).is_file():
                    continue
                folder = self.layout.metric_columns(model)
                self._columns[model] = MetricColumns(self.layout.metrics(model), list(self.recipe.corpora), folder)
                changed = True
            changed |= self._columns[model].update(most)
        return changed

    def summary(self) -> FamilyView:
        """How far the models are."""
        folder = str(self.layout.root)
        try:
            recipe = self.recipe
            self.update()
        except UserError as error:
            return FamilyView(self.id, folder, error=str(error))
        run = RunData(recipe, FamilySummary(), {}, {}, {})
        return FamilyView(
            id=self.id,
            folder=folder,
            name=recipe.name,
            description=recipe.description,
            parameters=recipe.model.parameters,
            context=recipe.model.context,
            corpora=list(recipe.corpora),
            models=[self._model(recipe, model) for model in recipe.models],
            stages=[(stage.name, start, end) for stage, start, end in stage_spans(recipe)],
            tree=family_tree(run),
        )

    def curves(self, span: tuple[int, int], points: int) -> dict[str, Curves]:
        """The curves of every model that has metrics.

        Raises:
            UserError: the recipe cannot be read.
        """
        self.update()
        recipe = self.recipe
        return {
            model: curves(columns, recipe.corpora_of(model), _contexts(recipe, model), span, points)
            for model, columns in self._columns.items()
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

    def _look_for_an_end(self, model: str) -> bool:
        try:
            stamp = self.layout.process(model).stat().st_mtime_ns
        except OSError:
            stamp = 0
        changed = self._processes.get(model, stamp) != stamp
        self._processes[model] = stamp
        return changed

    def _model(self, recipe: Recipe, model: str) -> ModelSummary:
        parent = None if model == BASE else recipe.parent(model)
        spans = stage_spans(recipe.line(model))
        end = spans[-1 if parent is not None else recipe.fork_index - 1][2]
        saved = [CheckpointSummary(step, None) for step in self._checkpoints.get(model, [])]
        untrained = ModelSummary(model, parent, recipe.fork_tokens(model), end, checkpoints=saved)
        if model not in self._columns:
            return untrained
        columns = self._columns[model]
        with columns.unchanged():
            return self._trained(untrained, columns, _contexts(recipe, model))

    def _trained(self, model: ModelSummary, columns: MetricColumns, contexts: Mapping[str, int]) -> ModelSummary:
        """What a model's metrics say, added to what its recipe says."""
        spikes = [record for record in columns.events if record.kind == "spike"]
        known = replace(
            model,
            checkpoints=_checkpoints(columns, self._checkpoints[model.name]),
            spikes=[SpikeSummary(spike.step, spike.tokens, spike_text(spike)) for spike in spikes[-_SHOWN:]],
            skipped=sum(record.kind != "held_out" for record in columns.events),
            behind=columns.behind,
            error=columns.error.removeprefix(f"{self.layout.root}/"),
        )
        recent = {name: columns.column(name, _RECENT).astype(np.float64) for name in COLUMNS}
        if not len(recent["step"]):
            return known
        seconds = float(np.nansum(recent["seconds"]) + np.nansum(recent["checkpoint_seconds"]))
        batches = recent["batch"] * tokens_per_sequence(columns, contexts, recent["stage"])
        trained = float(np.nansum(batches[np.isfinite(recent["seconds"])]))
        speed = trained / seconds if seconds > 0 else None
        tokens, state = int(recent["tokens"][-1]), _FINISHED
        if tokens < model.end_tokens:
            state = self._unfinished_state(model.name, float(recent["seconds"][-1]))
        return replace(
            known,
            state=state,
            step=int(recent["step"][-1]),
            tokens=tokens,
            stage=columns.stages[int(recent["stage"][-1])],
            loss=_last(recent["loss"]),
            lr=_last(recent["lr"]),
            batch=int(np.nan_to_num(batches[-1])),
            tokens_per_second=speed,
            mfu=_last(recent["mfu"]),
            seconds_left=(model.end_tokens - tokens) / speed if speed and state == "running" else None,
        )

    def _unfinished_state(self, model: str, seconds: float) -> State:
        """By the process that trains it, if that is of this machine, else by how long it is silent."""
        with suppress(TrainingError):
            process = read_process(self.layout.process(model))
            if process is not None and process.is_here:
                return "running" if process.outcome is None and process.is_alive else "stopped"
        silent = _SILENT_SECONDS
        if np.isfinite(seconds):
            silent = max(silent, _SILENT_STEPS * seconds)
        with suppress(OSError):
            if time.time() - self.layout.metrics(model).stat().st_mtime < silent:
                return "running"
        return "stopped"


def _contexts(recipe: Recipe, model: str) -> dict[str, int]:
    """Stage → tokens in a sequence."""
    return {stage.name: recipe.context(stage) for stage in recipe.line(model).stages}


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


def _checkpoints(columns: MetricColumns, saved: Sequence[int]) -> list[CheckpointSummary]:
    if not saved:
        return []
    steps, tokens = columns.column("step"), columns.column("tokens")
    places = [(step, int(np.searchsorted(steps, step))) for step in saved]
    return [
        CheckpointSummary(step, int(tokens[at]) if at < len(steps) and steps[at] == step else None)
        for step, at in places
    ]


def _last(values: NDArray[np.float64]) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if len(finite) else None
