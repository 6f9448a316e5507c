"""The rehearsal passes on what is shipped and fails on each error that is planted into a part of it."""

import dataclasses
import json
import time
from collections.abc import Mapping

import numpy as np
import pytest

from tests.command import run
from tinyllama.corpus.rows import row_count
from tinyllama.errors import PlanError
from tinyllama.plan import Plan, compile_plan
from tinyllama.recipe import Recipe, load_recipe
from tinyllama.sampler import Rehearsal, Sampler, StepRows, rehearse
from tinyllama.sampler.rehearsal import Parts
from tinyllama.sampler.visits import Visits

RECIPE = load_recipe("nano")
ROWS = {"prose": 501, "code": 77, "arithmetic": 13, "chinese": 120}
"""Small, so that epochs end often, even twice in a step."""


def _rehearse(parts: Parts | None = None) -> dict[str, Rehearsal]:
    done = rehearse(RECIPE, ROWS, list(RECIPE.variants), lambda *_: None, parts or Parts())
    return {result.variant: result for result in done}


def _failures(results: dict[str, Rehearsal]) -> dict[str, str]:
    return {check.name: check.detail for result in results.values() for check in result.checks if not check.passed}


def test_every_variant_of_a_sound_recipe_passes() -> None:
    results = _rehearse()
    assert list(results) == ["v1.1", "math_code", "chinese"]
    assert not _failures(results)
    rows = next(check for check in results["v1.1"].checks if check.name == "rows of prose")
    assert rows.detail == "501 rows: 3 whole epochs and 417 rows of the next, each once"
    assert results["v1.1"].sequences == 3 * 501 + 417


def test_a_recipe_whose_variants_fork_from_an_imported_model_passes() -> None:
    stages = "stages=[{name: domain, until: 1_030_000, batch: 16 sequences, fork: true, ramp: 10K}]"
    start = "start={model: somewhere, tokens: 1M, moments: fresh, rewarm: 8K}"
    recipe = load_recipe("nano", (start, stages, "optimizer.learning_rate.horizon=1_120_000"))
    results = {found.variant: found for found in rehearse(recipe, ROWS, list(recipe.variants), lambda *_: None)}
    assert not _failures(results)
    assert results["v1.1"].sequences == 480
    with pytest.raises(PlanError, match="the base has no steps"):
        list(rehearse(recipe, ROWS, ["base"], lambda *_: None))


def test_the_base_alone_can_be_rehearsed() -> None:
    (base,) = rehearse(RECIPE, ROWS, ["base"], lambda *_: None)
    assert base.passed
    assert base.steps == compile_plan(RECIPE).steps


class RepeatedRow(Sampler):
    """One row stands in the place of another, once in the whole plan."""

    def span(self, first: int, end: int) -> StepRows:
        chosen = super().span(first, end)
        if first <= 70 < end:
            prose = np.flatnonzero(chosen.corpus == 0)
            chosen.row[prose[-1]] = chosen.row[prose[-2]]
        return chosen


class DroppedTail(Sampler):
    """Rows that do not fill a batch are left out of every epoch."""

    def __init__(self, plan: Plan, seed: int, rows: Mapping[str, int]) -> None:
        super().__init__(plan, seed, {name: count - count % 16 or count for name, count in rows.items()})


def _shares_off_by_two(recipe: Recipe, variant: str | None) -> Plan:
    plan = compile_plan(recipe, variant)
    if variant != "math_code":
        return plan
    counts = plan.counts.copy()
    counts[80] += np.array([-2, 2, 0], np.int32)
    taken = np.cumsum(counts, axis=0, dtype=np.int64) - counts
    return dataclasses.replace(plan, counts=counts, taken=taken)


def _restarted_cosine(recipe: Recipe, variant: str | None) -> Plan:
    plan = compile_plan(recipe, variant)
    lr = plan.lr.copy()
    lr[plan.fork_step :] = plan.lr[: plan.steps - plan.fork_step]
    return dataclasses.replace(plan, lr=lr)


def _batch_per_rank(sequences: int, _rank: int, _ranks: int) -> slice:
    return slice(0, sequences)


@pytest.mark.parametrize(
    ("parts", "check", "found"),
    [
        (Parts(sampler=RepeatedRow), "rows of prose", "repeated"),
        (Parts(sampler=DroppedTail), "rows of prose", "row 496 is lost in epoch 1"),
        (Parts(compile=_shares_off_by_two), "quota", "step 81: "),
        (Parts(compile=_restarted_cosine), "learning rate", "step 60: 1.024000e-03, the schedule says 2.227298e-03"),
        (Parts(rank_part=_batch_per_rank), "ranks", "2 ranks compute 32 sequences of a batch of 16"),
    ],
    ids=["repeated row", "dropped tail", "shares off by two", "restart at a stage", "batch grows with ranks"],
)
def test_each_planted_error_is_found(parts: Parts, check: str, found: str) -> None:
    failures = _failures(_rehearse(parts))
    assert check in failures
    assert found in failures[check]


def test_a_batch_that_is_not_the_recipes_is_found() -> None:
    def smaller(recipe: Recipe, variant: str | None) -> Plan:
        other = load_recipe("nano", ["stages.2.batch=32 sequences"])
        assert other.name == recipe.name
        return compile_plan(other, variant)

    assert "cooldown says 64" in _failures(_rehearse(Parts(compile=smaller)))["batches"]


def test_a_lost_row_is_named() -> None:
    visits = Visits("prose", 5)
    visits.mark(np.array([0, 1, 4]))
    visits.add(3)
    visits.cross(np.array([2, 0, 1]))
    assert visits.problem == "row 3 is lost in epoch 1"


def test_a_step_may_end_several_epochs() -> None:
    visits = Visits("tiny", 3)
    visits.mark(np.array([2]))
    visits.add(1)
    visits.cross(np.array([0, 1, 0, 1, 2, 0, 1, 2, 1]))
    assert (visits.problem, visits.epochs, visits.visited) == ("", 3, 1)


def test_rows_of_a_span_are_the_rows_of_its_steps() -> None:
    for variant in RECIPE.variants:
        plan = compile_plan(RECIPE, variant)
        sampler = Sampler(plan, 1, ROWS)
        whole = sampler.span(50, plan.steps)
        single = [sampler.step(step) for step in range(50, plan.steps)]
        assert (whole.row == np.concatenate([step.row for step in single])).all()
        assert (whole.corpus == np.concatenate([step.corpus for step in single])).all()


def test_rows_of_the_flagship_are_found_as_fast_at_step_a_million() -> None:
    recipe = load_recipe("tinyllama-v1.1")
    rows = {name: row_count(corpus.size, recipe.model.context) for name, corpus in recipe.corpora.items()}
    sampler = Sampler(compile_plan(recipe, "math_code"), recipe.seed, rows)
    # A millisecond; the bound is against a walk through the steps before.
    began = time.perf_counter()
    assert len(sampler.step(1_000_000).row) == 880
    assert time.perf_counter() - began < 1.0


def test_the_command_prints_its_proof() -> None:
    done = run("rehearse", "nano", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["passed"]
    assert [item["variant"] for item in result["variants"]] == ["v1.1", "math_code", "chinese"]
