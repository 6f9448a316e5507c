"""A rehearsal: walk the whole plan of every variant, row by row, without data, and verify it.

The rows come from the sampler that training uses. The shared base is walked once; each variant continues from a copy
of its state. A branch is walked from the first step on.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from tinyllama.errors import PlanError
from tinyllama.layout import BASE
from tinyllama.plan import compile_plan
from tinyllama.plan.verification import Check, verify_plan
from tinyllama.processors import available_cores
from tinyllama.recipe.quantities import parse_count
from tinyllama.sampler.sampler import Sampler, rank_part
from tinyllama.sampler.visits import Visits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tinyllama.plan import Plan
    from tinyllama.recipe import Branch, Recipe

RANKS = (1, 2, 3, 4, 7, 16, 64, 256)
"""Rank counts whose orders are compared."""
_SPAN = 1 << 18
"""Sequences per chunk of a thread: enough to hide interpreter overhead, few enough to fit the cache."""
_SAMPLES = 64
"""Number of steps up to a fork at which a model's sampler is compared with its parent's."""


@dataclass(frozen=True)
class Rehearsal:
    """The result of one plan's walk."""

    variant: str
    steps: int
    sequences: int
    checks: list[Check]

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        return all(check.passed for check in self.checks)


@dataclass(frozen=True)
class Parts:
    """The parts under verification; a test replaces one with a faulty version."""

    compile: Callable[[Recipe, str | None], Plan] = compile_plan
    sampler: type[Sampler] = Sampler
    rank_part: Callable[[int, int, int], slice] = rank_part


def rehearse(
    recipe: Recipe,
    rows: Mapping[str, int],
    variants: Sequence[str],
    progress: Callable[[str, int, int], None],
    parts: Parts = Parts(),  # frozen
) -> Iterator[Rehearsal]:
    """Walk and check the whole plan of each variant or branch.

    Args:
        recipe: the family.
        rows: rows of each corpus, and of its partitions of other contexts.
        variants: the variants and branches to walk; "base" walks the base alone.
        progress: called with the name of the walk, the sequences walked so far, and their total.
        parts: planner, sampler and division among ranks.
    """
    base = parts.compile(recipe, None)
    start = {name: Visits(name, rows[name]) for name in base.partitions}
    sampler = parts.sampler(base, recipe.seed, rows)
    _walk(base, sampler, 0, start, partial(progress, BASE))
    for variant in variants:
        plan = parts.compile(recipe, variant)
        if not plan.steps:
            raise PlanError(f"{recipe.name}: the base has no steps, since variants fork from the start; name a variant")
        parent, of_parent, fork, walked, first = base, sampler, base.steps, start, plan.fork_step
        if (branch := recipe.branches.get(variant)) is not None:
            parent = parts.compile(recipe, branch.parent)
            of_parent, fork = parts.sampler(parent, recipe.seed, rows), _stated_fork(branch, parent)
            walked, first = {}, 0
        visits = {name: walked[name].copy() if name in walked else Visits(name, rows[name]) for name in plan.partitions}
        own = parts.sampler(plan, recipe.seed, rows)
        checks = [
            *verify_plan(recipe, plan),
            _shares_path(parent, plan, fork, (of_parent, own)),
            _ranks(plan, parts.rank_part),
        ]
        if all(check.passed for check in checks):
            _walk(plan, own, first, visits, partial(progress, variant))
            checks += [_visited(item, plan) for item in visits.values()]
        yield Rehearsal(variant, plan.steps, int(plan.batch.sum(dtype=np.int64)), checks)


def _stated_fork(branch: Branch, parent: Plan) -> int:
    """The number of steps of its parent's plan that a branch shares: those up to the stated tokens or stage."""
    ends = {name: end for name, _, end in parent.stage_steps()} | {"": parent.steps}
    if branch.point in ends:
        return ends[branch.point]
    return int(np.argmax(parent.tokens >= parse_count(branch.point))) + 1


def _shares_path(parent: Plan, plan: Plan, fork: int, samplers: tuple[Sampler, Sampler]) -> Check:
    """Check that a plan begins with its parent's steps up to the fork, and that both samplers return the same rows."""
    whose = f"{parent.variant or BASE}'s"
    if plan.fork_step != fork:
        found = f"it forks after step {plan.fork_step:,}, and the recipe says after step {fork:,} of {whose}"
        return Check("shared path", found, passed=False)
    same = all(
        bool((own[:fork] == theirs[:fork]).all())
        for own, theirs in ((plan.lr, parent.lr), (plan.contexts, parent.contexts))
    )
    for index, name in enumerate(plan.corpora):
        counts = parent.counts[:fork, parent.corpora.index(name)] if name in parent.corpora else 0
        same = same and bool((plan.counts[:fork, index] == counts).all())
    samples = np.linspace(0, fork - 1, _SAMPLES if fork else 0, dtype=np.int64)
    for step in samples.tolist() if same else ():
        one, other = (sampler.step(step) for sampler in samplers)
        names = [[p.corpora[c] for c in chosen.corpus] for p, chosen in ((parent, one), (plan, other))]
        same = same and names[0] == names[1] and bool((one.row == other.row).all())
    if not same:
        return Check("shared path", f"it does not begin with {whose} steps", passed=False)
    return Check("shared path", f"its first {fork:,} steps are {whose}", passed=True)


def _ranks(plan: Plan, part: Callable[[int, int, int], slice]) -> Check:
    """Check for every batch size and rank count that the ranks' parts, concatenated, are the batch."""
    for batch in np.unique(plan.batch).tolist():
        whole = np.arange(batch)
        for ranks in RANKS:
            parts = np.concatenate([whole[part(batch, rank, ranks)] for rank in range(ranks)])
            if not np.array_equal(parts, whole):
                found = f"{ranks} ranks compute {len(parts)} sequences of a batch of {batch}, or a different order"
                return Check("ranks", found, passed=False)
    return Check("ranks", f"the same sequences in the same order on {', '.join(map(str, RANKS))} ranks", passed=True)


def _visited(visits: Visits, plan: Plan) -> Check:
    visits.check()
    corpus, context = plan.partitions[visits.name]
    planned = int(plan.counts[plan.contexts == context, plan.corpora.index(corpus)].sum(dtype=np.int64))
    name = f"rows of {visits.name}"
    if visits.problem:
        return Check(name, visits.problem, passed=False)
    if visits.epochs * visits.rows + visits.visited != planned:
        return Check(name, f"{visits.epochs} epochs and {visits.visited:,} rows are not {planned:,}", passed=False)
    found = f"{visits.rows:,} rows: {visits.epochs} whole epochs and {visits.visited:,} rows of the next, each once"
    return Check(name, found, passed=True)


def _walk(
    plan: Plan, sampler: Sampler, first: int, visits: Mapping[str, Visits], progress: Callable[[int, int], None]
) -> None:
    """Visit the rows of all steps from `first` on."""
    if first == plan.steps:
        return  # the base of a recipe whose variants fork from an imported model
    begun, total = int(plan.before[first]), int(plan.before[-1] + plan.batch[-1])
    with ThreadPoolExecutor(available_cores()) as pool:
        step = first
        while step < plan.steps:
            names, stop = plan.partitions_of(step), plan.context_spans(step, plan.steps)[0][1]
            end = _next_crossing(plan, step, stop, [visits[name] for name in names])
            for done in pool.map(lambda span: _mark(plan, sampler, span, visits), _spans(plan, step, end)):
                progress(done - begun, total - begun)
            for index, name in enumerate(names):
                visits[name].add(int(plan.counts[step:end, index].sum(dtype=np.int64)))
            if end < stop:
                chosen = sampler.step(end)
                for index, name in enumerate(names):
                    visits[name].cross(chosen.row[chosen.corpus == index])
            step = min(end + 1, stop)


def _next_crossing(plan: Plan, step: int, stop: int, visits: Sequence[Visits]) -> int:
    """The first step at or after `step` that completes a partition's current epoch, or `stop`, where another begins."""
    ends = [stop]
    for index, partition in enumerate(visits):
        whole = int(plan.taken[step, index]) + partition.until_whole
        ends.append(step + int(np.searchsorted(plan.taken[step:stop, index], whole)) - 1)
    return min(ends)


def _spans(plan: Plan, first: int, end: int) -> Iterator[tuple[int, int]]:
    while first < end:
        stop = min(end, first + max(1, _SPAN // int(plan.batch[first])))
        yield first, stop
        first = stop


def _mark(plan: Plan, sampler: Sampler, span: tuple[int, int], visits: Mapping[str, Visits]) -> int:
    """Mark the rows of a range of steps; return the number of sequences seen at its end."""
    chosen = sampler.span(*span)
    for index, name in enumerate(plan.partitions_of(span[0])):
        visits[name].mark(chosen.row[chosen.corpus == index] if len(plan.corpora) > 1 else chosen.row)
    return int(plan.before[span[1] - 1] + plan.batch[span[1] - 1])
