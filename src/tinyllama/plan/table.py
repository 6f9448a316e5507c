"""The plan: a recipe compiled into a columnar table with a row per optimizer step."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from tinyllama.errors import PlanError
from tinyllama.folders import claim_file
from tinyllama.layout import BASE
from tinyllama.plan.quota import QuotaCurve, allot, quota_curve
from tinyllama.plan.schedule import Change, planned_rate, share_changes, stage_ends

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tinyllama.recipe import Recipe


@dataclass(frozen=True)
class Plan:
    """What each optimizer step does; every column has one entry per step.

    `counts` and `taken` have one column per corpus, in the order of `corpora`.
    """

    variant: str | None
    """None for the shared base alone."""
    context: int
    corpora: tuple[str, ...]
    stages: tuple[str, ...]
    start: int
    """Sequences seen before the first step: 0, or the recipe's start."""
    fork_step: int
    """First step that belongs to the variant or branch."""
    before: NDArray[np.int64]
    """Sequences seen before the step."""
    stage: NDArray[np.int16]
    """Index into `stages`."""
    lr: NDArray[np.float64]
    """The schedule at the tokens seen after the step."""
    batch: NDArray[np.int32]
    """Sequences in the step."""
    counts: NDArray[np.int32]
    """Sequences from each corpus in the step."""
    taken: NDArray[np.int64]
    """Sequences taken from each corpus before the step, since `start`."""

    @property
    def steps(self) -> int:
        """Number of optimizer steps."""
        return len(self.batch)

    def tokens_after(self, step: int) -> int:
        """Tokens seen when `step` steps are done."""
        if step == 0:
            return self.start * self.context
        return int(self.before[step - 1] + self.batch[step - 1]) * self.context

    def steps_crossing(self, every: int) -> set[int]:
        """Steps done whenever a multiple of `every` tokens is reached or passed."""
        before = self.before * self.context
        after = before + self.batch.astype(np.int64) * self.context
        return set((np.flatnonzero(before // every != after // every) + 1).tolist())

    def steps_reaching(self, sequences: Sequence[int]) -> set[int]:
        """Steps done when each of some numbers of sequences is reached or passed."""
        return set((np.searchsorted(self.before + self.batch, sequences) + 1).tolist())

    def stage_steps(self) -> list[tuple[str, int, int]]:
        """(name, first step, end step) of each stage."""
        edges = np.searchsorted(self.stage, np.arange(len(self.stages) + 1))
        return [(name, int(edges[i]), int(edges[i + 1])) for i, name in enumerate(self.stages)]

    def write_parquet(self, path: Path) -> None:
        """Write the table, one column `sequences_<corpus>` per corpus.

        Raises:
            PlanError: the path holds something else than an earlier table.
        """
        import pyarrow as pa  # slow to import, needed only here
        from pyarrow import parquet

        claim_file(path, "the plan's table", _is_table, PlanError)

        columns = {
            "step": np.arange(self.steps),
            "sequences_before": self.before,
            "stage": np.array(self.stages)[self.stage],
            "learning_rate": self.lr,
            "batch": self.batch,
        }
        columns |= {f"sequences_{name}": self.counts[:, i] for i, name in enumerate(self.corpora)}
        with path.open("wb") as file:  # pyarrow opens no path that is not UTF-8
            parquet.write_table(pa.table(columns), file, compression="zstd")


def _is_table(path: Path) -> bool:
    from pyarrow import ArrowException, parquet

    try:
        return {"step", "sequences_before", "batch"} <= set(parquet.read_schema(path).names)
    except (OSError, ArrowException):
        return False


def compile_plan(recipe: Recipe, variant: str | None = None) -> Plan:
    """Compile the base (variant None or "base"), or the whole path of a variant or branch from the first step on.

    Raises:
        PlanError: no such variant, or a share change at the fork that whole sequences cannot follow.
    """
    if variant == BASE:
        variant = None
    if variant is not None and variant not in recipe.models:
        raise PlanError(f"{recipe.name} has no variant {variant!r}; it has {', '.join(recipe.models)}")
    recipe = recipe.line(variant)
    stages = recipe.stages[: recipe.fork_index] if variant is None else recipe.stages
    batch, stage = _steps(recipe, len(stages))
    after = recipe.start_sequences + np.cumsum(batch, dtype=np.int64)
    before = after - batch
    fork_step = int(np.searchsorted(stage, recipe.fork_index))
    names = recipe.corpora_of(variant or BASE)
    taken = _allot_all(recipe, share_changes(recipe, variant), names, batch)
    return Plan(
        variant=variant,
        context=recipe.model.context,
        corpora=names,
        stages=tuple(item.name for item in stages),
        start=recipe.start_sequences,
        fork_step=fork_step,
        before=before,
        stage=stage,
        lr=planned_rate(recipe, after * recipe.model.context),
        batch=batch.astype(np.int32),
        counts=np.diff(taken, axis=0).astype(np.int32),
        taken=taken[:-1],
    )


def quota_at(recipe: Recipe, variant: str | None, corpus: str, sequences: int) -> Fraction:
    """Exact planned quota of a corpus since the start, in sequences, when `sequences` were seen."""
    first, *later = _curves(share_changes(recipe, variant), corpus)
    seen = sequences - recipe.start_sequences
    curve = next((curve for curve in reversed(later) if curve.start < seen), first)
    return Fraction(curve.at(seen), curve.unit)


def _steps(recipe: Recipe, stages: int) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
    """Batch and stage index of each step of the first `stages` stages."""
    ends = np.array([recipe.start_sequences, *stage_ends(recipe)[:stages]], np.int64)
    sizes = np.array([recipe.batch_sequences(stage) for stage in recipe.stages[:stages]], np.int64)
    steps = np.diff(ends) // sizes
    return np.repeat(sizes, steps), np.repeat(np.arange(stages, dtype=np.int16), steps)


def _curves(changes: list[Change], corpus: str) -> list[QuotaCurve]:
    """A corpus's quota from each change of the shares on."""
    curves: list[QuotaCurve] = []
    for change in changes:
        before, after = (shares.get(corpus, Fraction(0)) for shares in (change.before, change.after))
        offset = Fraction(curves[-1].at(change.start), curves[-1].unit) if curves else Fraction(0)
        curves.append(quota_curve(before, after, ramp=change.ramp, start=change.start, offset=offset))
    return curves


def _allot_all(
    recipe: Recipe, changes: list[Change], names: tuple[str, ...], batch: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Cumulative sequences per corpus since the start: [steps + 1, corpora].

    Each part between two changes is filled without regard to the next, on which steps before it must not depend.
    """
    curves = [_curves(changes, name) for name in names]
    before = np.cumsum(batch) - batch
    edges = [*np.searchsorted(before, [change.start for change in changes]).tolist(), len(batch)]
    parts = [np.zeros((1, len(names)), np.int64)]
    for index, change in enumerate(changes):
        part = batch[edges[index] : edges[index + 1]]
        taken = tuple(int(count) for count in parts[-1][-1])
        whole = [name for name in names if change.before.get(name) == change.after.get(name) == 1]
        if not len(part):
            continue
        if whole:  # one corpus takes everything: no rounding, and a million steps at once
            result = np.tile(np.array(taken, np.int64), (len(part), 1))
            result[:, names.index(whole[0])] += np.cumsum(part)
        else:
            own = [curve[index] for curve in curves]
            result = allot(own, change.start, part.tolist(), taken)
        if (result.sum(axis=1) != change.start + np.cumsum(part)).any():
            stage = recipe.stages[_stage_at(recipe, change.start)].name
            raise PlanError(
                f"{recipe.name}: no whole number of sequences can follow the shares from stage {stage} on; choose an "
                "`until` of the stage before it at which every corpus has had a whole number"
            )
        parts.append(result)
    return np.vstack(parts)


def _stage_at(recipe: Recipe, sequences: int) -> int:
    """The stage that begins when a number of sequences was seen since the start."""
    return [recipe.start_sequences, *stage_ends(recipe)].index(recipe.start_sequences + sequences)
