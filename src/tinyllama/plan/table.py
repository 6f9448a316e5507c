"""The plan: a recipe compiled into a columnar table with a row per optimizer step."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tinyllama.errors import PlanError
from tinyllama.folders import claim_file
from tinyllama.layout import BASE
from tinyllama.plan.quota import QuotaCurve, allot, quota_curve
from tinyllama.plan.schedule import Change, planned_rate, share_changes, stage_ends
from tinyllama.recipe.stages import partition_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
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
    """Tokens of a sequence of the model; stages may have others, see `contexts`."""
    corpora: tuple[str, ...]
    stages: tuple[str, ...]
    start: int
    """Sequences of the model's context seen before the first step: 0, or the recipe's start."""
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
    contexts: NDArray[np.int32]
    """Tokens of each sequence of the step."""
    tokens: NDArray[np.int64]
    """Tokens seen after the step."""
    counts: NDArray[np.int32]
    """Sequences from each corpus in the step."""
    taken: NDArray[np.int64]
    """Sequences of the step's context taken from each corpus before the step, since `start`."""

    @property
    def steps(self) -> int:
        """Number of optimizer steps."""
        return len(self.batch)

    def tokens_after(self, step: int) -> int:
        """Tokens seen when `step` steps are done."""
        return int(self.tokens[step - 1]) if step else self.start * self.context

    def steps_crossing(self, every: int) -> set[int]:
        """Steps done whenever a multiple of `every` tokens is reached or passed."""
        before = self.tokens - self.batch.astype(np.int64) * self.contexts
        return set((np.flatnonzero(before // every != self.tokens // every) + 1).tolist())

    def partition(self, corpus: str, context: int) -> str:
        """Name of a corpus's rows of a context: those of the model's context bear the corpus's own."""
        return partition_name(corpus, context, self.context)

    def partitions_of(self, step: int) -> list[str]:
        """Names of the rows that a step's counts are of, a corpus each."""
        return [self.partition(corpus, int(self.contexts[step])) for corpus in self.corpora]

    @property
    def partitions(self) -> dict[str, tuple[str, int]]:
        """The rows that the plan reads, by name: corpus and context."""
        contexts = dict.fromkeys(
            self.contexts[[first for _, first, _ in self.stage_steps()]].tolist() or [self.context]
        )
        found = [(corpus, context) for context in contexts for corpus in self.corpora]
        return {self.partition(corpus, context): (corpus, context) for corpus, context in found}

    def context_spans(self, first: int, end: int) -> list[tuple[int, int]]:
        """The steps from `first` to `end` as spans of one context each."""
        changes = np.flatnonzero(np.diff(self.contexts[first:end])) + 1 + first
        return list(pairwise([first, *changes.tolist(), end])) if first < end else []

    def steps_reaching(self, tokens: Sequence[int]) -> set[int]:
        """Steps done when each of some numbers of tokens is reached or passed."""
        return set((np.searchsorted(self.tokens, tokens) + 1).tolist())

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
            "context": self.contexts,
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
    contexts = np.array([recipe.context(item) for item in stages], np.int64)[stage]
    tokens = recipe.start_tokens + np.cumsum(batch * contexts, dtype=np.int64)
    fork_step = int(np.searchsorted(stage, recipe.fork_index))
    names = recipe.corpora_of(variant or BASE)
    changes = share_changes(recipe, variant)
    counts, taken = (np.zeros((len(batch), len(names)), np.int64) for _ in range(2))
    for context in np.unique(contexts).tolist():
        own = contexts == context
        held = _allot_all(recipe, _at_context(recipe, changes, context, len(stages)), names, batch[own])
        counts[own], taken[own] = np.diff(held, axis=0), held[:-1]
    return Plan(
        variant=variant,
        context=recipe.model.context,
        corpora=names,
        stages=tuple(item.name for item in stages),
        start=recipe.start_sequences,
        fork_step=fork_step,
        before=recipe.start_sequences + np.cumsum(batch, dtype=np.int64) - batch,
        stage=stage,
        lr=planned_rate(recipe, tokens),
        batch=batch.astype(np.int32),
        contexts=contexts.astype(np.int32),
        tokens=tokens,
        counts=counts.astype(np.int32),
        taken=taken,
    )


def quota_at(recipe: Recipe, variant: str | None, corpus: str, sequences: int, context: int | None = None) -> Fraction:
    """Exact planned quota of a corpus since the start, in sequences of one context.

    Args:
        recipe: the recipe.
        variant: a variant or branch; None is the base.
        corpus: its name.
        sequences: of this context that were seen; of the model's own, those of the start are among them.
        context: tokens of a sequence; None for the model's.
    """
    line, own = recipe.line(variant), recipe.model.context if context is None else context
    changes = _at_context(line, share_changes(recipe, variant), own, len(line.stages))
    first, *later = _curves(changes, corpus)
    seen = sequences - (recipe.start_sequences if own == recipe.model.context else 0)
    curve = next((curve for curve in reversed(later) if curve.start < seen), first)
    return Fraction(curve.at(seen), curve.unit)


def sequences_at(recipe: Recipe, variant: str | None, context: int, tokens: int) -> int:
    """Sequences of a context that were seen when `tokens` were; of the model's own, those of the start are among them.

    These are what `quota_at` takes.
    """
    line = recipe.line(variant)
    seen, begin = recipe.start_sequences if context == recipe.model.context else 0, recipe.start_tokens
    for stage, end in zip(line.stages, line.end_tokens, strict=True):
        if recipe.context(stage) == context:
            seen += (min(max(tokens, begin), end) - begin) // context
        begin = end
    return seen


def _steps(recipe: Recipe, stages: int) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
    """Batch and stage index of each step of the first `stages` stages."""
    ends = np.array([recipe.start_tokens, *stage_ends(recipe)[:stages]], np.int64)
    sizes = np.array([recipe.batch_sequences(stage) for stage in recipe.stages[:stages]], np.int64)
    contexts = np.array([recipe.context(stage) for stage in recipe.stages[:stages]], np.int64)
    steps = np.diff(ends) // (sizes * contexts)
    return np.repeat(sizes, steps), np.repeat(np.arange(stages, dtype=np.int16), steps)


class _Change(NamedTuple):
    """A change of the shares from a stage on, in sequences of one context seen since the plan's start."""

    stage: int
    start: int
    ramp: Fraction
    before: Mapping[str, Fraction]
    after: Mapping[str, Fraction]


def _at_context(recipe: Recipe, changes: list[Change], context: int, stages: int) -> list[_Change]:
    """The changes of the shares among sequences of one context, of the first `stages` stages of a line.

    Its quotas begin with the first stage that has this context. What changed while the context was another is a step.
    """
    own: list[_Change] = []
    seen, last, begin = 0, -1, recipe.start_tokens
    for index, (stage, end) in enumerate(zip(recipe.stages[:stages], stage_ends(recipe), strict=False)):
        if recipe.context(stage) == context:
            missed = [change.after for change in changes if last < change.stage < index]
            here = [change for change in changes if change.stage == index]
            if missed and not here:
                own.append(_Change(index, seen, Fraction(0), missed[-1], missed[-1]))
            own += [
                _Change(index, seen, Fraction(change.ramp, context), change.before, change.after) for change in here
            ]
            seen, last = seen + (end - begin) // context, index
        begin = end
    return own


def _curves(changes: list[_Change], corpus: str) -> list[QuotaCurve]:
    """A corpus's quota from each change of the shares on."""
    curves: list[QuotaCurve] = []
    for change in changes:
        before, after = (shares.get(corpus, Fraction(0)) for shares in (change.before, change.after))
        offset = Fraction(curves[-1].at(change.start), curves[-1].unit) if curves else Fraction(0)
        curves.append(quota_curve(before, after, ramp=change.ramp, start=change.start, offset=offset))
    return curves


def _allot_all(
    recipe: Recipe, changes: list[_Change], names: tuple[str, ...], batch: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Cumulative sequences of one context per corpus since the start: [steps + 1, corpora].

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
            stage = recipe.stages[change.stage].name
            raise PlanError(
                f"{recipe.name}: no whole number of sequences can follow the shares from stage {stage} on; choose an "
                "`until` of the stage before it at which every corpus has had a whole number"
            )
        parts.append(result)
    return np.vstack(parts)
