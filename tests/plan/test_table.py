from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from tinyllama.errors import PlanError
from tinyllama.plan import compile_plan, quota_at, sequences_at, share_at, summarize
from tinyllama.plan.learning_rate import learning_rate
from tinyllama.recipe import LearningRate, load_recipe, shipped_recipes


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_compiles_and_keeps_its_quota_at_every_sampled_step(name: str) -> None:
    recipe = load_recipe(name)
    for variant in recipe.models[1:]:
        plan = compile_plan(recipe, variant)
        assert (plan.counts >= 0).all()
        assert (plan.counts.sum(axis=1) == plan.batch).all()
        assert (plan.lr > 0).all()
        for step in np.linspace(1, plan.steps - 1, 200, dtype=int).tolist():
            context = int(plan.contexts[step])
            seen = sequences_at(recipe, variant, context, plan.tokens_after(step))
            for index, corpus in enumerate(plan.corpora):
                quota = quota_at(recipe, variant, corpus, seen, context)
                assert abs(quota - int(plan.taken[step, index])) < 1


def test_all_variants_share_the_base_step_for_step() -> None:
    recipe = load_recipe("nano")
    base = compile_plan(recipe)
    for variant in recipe.variants:
        plan = compile_plan(recipe, variant)
        assert plan.fork_step == base.steps
        assert (plan.lr[: base.steps] == base.lr).all()
        assert (plan.counts[: base.steps, 0] == base.counts[:, 0]).all()


def test_a_base_of_several_corpora_is_planned() -> None:
    recipe = load_recipe("nano", ["base={prose: 60%, code: 30%, arithmetic: 10%}"])
    plan = compile_plan(recipe, "chinese")
    for step in range(1, plan.steps):
        for index, corpus in enumerate(plan.corpora):
            quota = quota_at(recipe, "chinese", corpus, int(plan.before[step]))
            assert abs(quota - int(plan.taken[step, index])) < 1


def test_extending_the_last_stage_changes_no_earlier_step() -> None:
    short = compile_plan(load_recipe("nano"), "math_code")
    long = compile_plan(load_recipe("nano", ["stages.2.until=300K"]), "math_code")
    assert long.steps > short.steps
    assert (long.counts[: short.steps] == short.counts).all()
    assert (long.lr[: short.steps] == short.lr).all()


def test_the_learning_rate_stays_at_the_minimum_past_the_horizon() -> None:
    schedule = LearningRate(peak=1.0, minimum=0.1, warmup=10, horizon=100)
    rates = learning_rate(schedule, np.array([5, 10, 55, 100, 1000]))
    assert rates == pytest.approx([0.5, 1.0, 0.55, 0.1, 0.1])


def test_planned_shares_follow_the_ramp() -> None:
    recipe = load_recipe("nano")
    fork = compile_plan(recipe).tokens_after(compile_plan(recipe).steps)
    assert share_at(recipe, "math_code", fork)["prose"] == 1
    assert share_at(recipe, "math_code", fork + 5_000)["code"] == pytest.approx(0.075)
    assert share_at(recipe, "math_code", fork + 50_000)["code"] == pytest.approx(0.15)
    assert share_at(recipe, None, fork + 50_000)["code"] == 0


def test_a_ramp_steps_share_is_its_mean_over_the_step() -> None:
    recipe = load_recipe("nano")
    plan = compile_plan(recipe, "chinese")
    fork, ramp = int(plan.before[plan.fork_step]), Fraction(10_000, recipe.model.context)
    assert quota_at(recipe, "chinese", "chinese", fork + 16) == Fraction(1, 2) * 16 * 16 / (2 * ramp)


def test_a_stage_without_a_step_is_refused_by_name() -> None:
    recipe = load_recipe("nano", ["stages.1.until=60400", "stages.1.ramp=0"])
    with pytest.raises(PlanError, match="stage domain has no step"):
        compile_plan(recipe, "v1.1")


def test_an_unknown_variant_is_refused_with_the_known_ones() -> None:
    with pytest.raises(PlanError, match=r"no variant 'x'.*math_code"):
        compile_plan(load_recipe("nano"), "x")


def test_the_table_reads_back_from_parquet(tmp_path: Path) -> None:
    plan = compile_plan(load_recipe("nano"), "math_code")
    plan.write_parquet(tmp_path / "plan.parquet")
    table = parquet.read_table(tmp_path / "plan.parquet").to_pydict()
    assert table["sequences_code"] == plan.counts[:, 1].tolist()
    assert table["stage"][0] == "base"
    assert table["learning_rate"] == plan.lr.tolist()


def test_too_many_epochs_are_flagged() -> None:
    recipe = load_recipe("nano")
    summary = summarize(compile_plan(recipe, "chinese"), recipe, {"prose": 200_000, "chinese": 2_000})
    assert {corpus.name: corpus.too_many_epochs for corpus in summary.corpora} == {"prose": False, "chinese": True}


def test_tokens_past_the_horizon_are_counted_but_for_the_rounding_of_the_last_step() -> None:
    shipped = summarize(compile_plan(load_recipe("nano"), "v1.1"), load_recipe("nano"))
    longer = load_recipe("nano", ["stages.2.until=200K"])
    constant = load_recipe("nano", ["optimizer.learning_rate={schedule: constant, peak: 1e-3, warmup: 4K}"])
    plan = compile_plan(longer, "v1.1")
    kept = summarize(plan, longer).past_horizon
    assert (shipped.past_horizon, summarize(compile_plan(constant, "v1.1"), constant).past_horizon) == (0, 0)
    at_minimum = int(plan.batch[plan.lr == plan.lr[-1]].sum()) * plan.context
    assert kept == at_minimum - int(plan.batch[-1]) * plan.context > 0  # less the step that reaches the horizon
