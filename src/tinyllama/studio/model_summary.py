"""How far one model is: what its recipe says, and what its metrics add."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tinyllama.layout import BASE
from tinyllama.report.figures import stage_spans
from tinyllama.report.text import spike_text
from tinyllama.studio.curves import tokens_per_sequence
from tinyllama.studio.metric_blocks import COLUMNS
from tinyllama.studio.summaries import CheckpointSummary, ModelSummary, SpikeSummary

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tinyllama.layout import FamilyLayout
    from tinyllama.recipe import Recipe
    from tinyllama.studio.columns import MetricColumns

_RECENT = 200
"""Steps that the speed is measured over."""
_SHOWN = 100
"""Newest spikes that are listed."""


def untrained(recipe: Recipe, model: str) -> ModelSummary:
    """A model before its first step."""
    parent, spans = None if model == BASE else recipe.parent(model), stage_spans(recipe.line(model))
    end = spans[-1 if parent is not None else recipe.fork_index - 1][2]
    return ModelSummary(model, parent, recipe.fork_tokens(model), end)


def with_metrics(
    model: ModelSummary, columns: MetricColumns, recipe: Recipe, layout: FamilyLayout
) -> tuple[ModelSummary, float]:
    """What a model's metrics say, added to what its recipe says; and the seconds of the slowest of its last steps."""
    with columns.unchanged():
        spikes = [record for record in columns.events if record.kind == "spike"]
        known = replace(
            model,
            checkpoints=[CheckpointSummary(saved.step, _tokens_at(columns, saved.step)) for saved in model.checkpoints],
            spikes=[SpikeSummary(spike.step, spike.tokens, spike_text(spike)) for spike in spikes[-_SHOWN:]],
            skipped=sum(record.kind != "held_out" for record in columns.events),
            version=columns.version,
            history=columns.history,
            behind=columns.behind,
            error=columns.error.removeprefix(f"{layout.root}/"),
        )
        recent = {name: columns.column(name, _RECENT).astype(np.float64) for name in COLUMNS}
        stages = columns.stages
        sequences = tokens_per_sequence(columns, contexts_of(recipe, model.name), recent["stage"])
    if not len(recent["step"]):
        return known, 0.0
    each = np.nan_to_num(recent["seconds"]) + np.nan_to_num(recent["checkpoint_seconds"])
    seconds, batches = float(each.sum()), recent["batch"] * sequences
    trained = float(np.nansum(batches[np.isfinite(recent["seconds"])]))
    seen = replace(
        known,
        step=int(recent["step"][-1]),
        tokens=int(recent["tokens"][-1]),
        stage=stages[int(recent["stage"][-1])],
        loss=_last(recent["loss"]),
        lr=_last(recent["lr"]),
        batch=int(np.nan_to_num(batches[-1])),
        tokens_per_second=trained / seconds if seconds > 0 else None,
        mfu=_last(recent["mfu"]),
    )
    return seen, float(each.max())


def contexts_of(recipe: Recipe, model: str) -> dict[str, int]:
    """Stage → tokens in a sequence."""
    return {stage.name: recipe.context(stage) for stage in recipe.line(model).stages}


def _tokens_at(columns: MetricColumns, step: int) -> int | None:
    """Tokens seen after a step; None if the metrics do not know it."""
    at = columns.place("step", step) - 1
    if at < 0 or columns.part("step", at, at + 1)[0] != step:
        return None
    return int(columns.part("tokens", at, at + 1)[0])


def _last(values: NDArray[np.float64]) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if len(finite) else None
