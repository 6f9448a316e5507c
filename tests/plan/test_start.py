import numpy as np
import pytest

from tinyllama.errors import RecipeError
from tinyllama.plan import compile_plan, quota_at, share_at, summarize
from tinyllama.plan.hardware import predict
from tinyllama.plan.schedule import learning_rate
from tinyllama.plan.verification import verify_plan
from tinyllama.recipe import Recipe, load_recipe

START = (
    "start={model: somewhere, tokens: 1M, moments: fresh, rewarm: 8K}",
    "stages.0.until=1_060_000",
    "stages.1.until=1_090_000",
    "stages.2.until=1_120_000",
    "optimizer.learning_rate.horizon=1_120_000",
)
FORK_FIRST = (
    START[0],
    "stages=[{name: domain, until: 1_030_000, batch: 16 sequences, fork: true, ramp: 10K}]",
    START[-1],
)


def recipe_of(*overrides: str) -> Recipe:
    return load_recipe("nano", overrides)


def test_the_plan_begins_at_the_starts_tokens() -> None:
    recipe = recipe_of(*START)
    plan = compile_plan(recipe, "math_code")
    assert plan.tokens_after(0) == 1_000_000
    assert plan.before[0] * plan.context == 1_000_000
    assert plan.tokens_after(1) == 1_000_000 + 16 * 64
    assert 1_120_000 <= plan.tokens_after(plan.steps) < 1_120_000 + 64 * 64
    assert summarize(plan, recipe).stages[0].tokens_before == 1_000_000


def test_tokens_that_are_no_whole_sequence_are_rounded_up() -> None:
    plan = compile_plan(recipe_of("start={model: x, tokens: 1001}", *START[1:]))
    assert plan.tokens_after(0) == 16 * 64


def test_a_start_asks_of_each_corpus_what_the_same_stages_ask_without_one() -> None:
    plain, started = load_recipe("nano"), recipe_of(*START)
    for variant in plain.variants:
        without, with_start = compile_plan(plain, variant), compile_plan(started, variant)
        steps = min(without.fork_step, with_start.fork_step)
        assert (without.counts[:steps] == with_start.counts[:steps]).all()
        after = min(len(without.counts) - without.fork_step, len(with_start.counts) - with_start.fork_step) - 4
        rest = slice(with_start.fork_step, with_start.fork_step + after)
        assert with_start.counts[rest].sum(axis=1).min() > 0
        for index, corpus in enumerate(with_start.corpora):
            for step in range(with_start.steps):
                quota = quota_at(started, variant, corpus, int(with_start.before[step]))
                assert abs(quota - int(with_start.taken[step, index])) < 1


def test_the_learning_rate_rises_again_to_the_schedule_and_then_follows_it() -> None:
    recipe = recipe_of(*START)
    plan = compile_plan(recipe)
    after = (plan.before + plan.batch) * plan.context
    scheduled = learning_rate(recipe.optimizer.learning_rate, after)
    since = after - 1_000_000
    assert (plan.lr > 0).all()
    np.testing.assert_allclose(plan.lr, scheduled * np.minimum(1, since / 8000))
    assert plan.lr[0] < plan.lr[7]
    assert (plan.lr[8:] == scheduled[8:]).all()


def test_variants_may_fork_from_the_start_itself() -> None:
    recipe = recipe_of(*FORK_FIRST)
    base, variant = compile_plan(recipe), compile_plan(recipe, "math_code")
    assert base.steps == 0
    assert base.tokens_after(0) == 1_000_000
    assert summarize(base, recipe).stages == []
    assert variant.fork_step == 0
    assert (variant.counts.sum(axis=1) == variant.batch).all()
    assert share_at(recipe, "math_code", 1_000_000)["prose"] == 1.0
    assert share_at(recipe, "math_code", 1_000_000 + 10_000)["code"] == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (FORK_FIRST[1:], "it may be the first stage only in a recipe with a start"),
        ((START[0],), r"stage base must end after start.tokens"),
        (("start={model: x, tokens: 1K, moment: fresh}",), "did you mean 'moments'"),
        (("start={model: x, tokens: 1K, moments: warm}",), "start.moments"),
        (("tokenizer={imported: true}",), "add a start"),
    ],
)
def test_a_start_that_cannot_be_is_refused(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe_of(*overrides)


def test_the_shipped_recipe_goes_on_where_the_release_ends() -> None:
    recipe = load_recipe("continue")
    plan = compile_plan(recipe, "v1.1")
    assert plan.tokens_after(0) == 2_000_000_000_000
    reached = min(plan.steps_crossing(2_002_000_000_000))
    assert plan.lr[reached] == pytest.approx(7.4e-5, rel=0.02)
    assert plan.lr[reached] > plan.lr[-1] > 4e-5 * 0.999


@pytest.mark.parametrize("overrides", [START, FORK_FIRST])
def test_a_plan_with_a_start_passes_its_verification_by_other_arithmetic(overrides: tuple[str, ...]) -> None:
    recipe = recipe_of(*overrides)
    for variant in recipe.variants:
        failed = [check for check in verify_plan(recipe, compile_plan(recipe, variant)) if not check.passed]
        assert not failed


def test_tokens_before_the_start_cost_nothing() -> None:
    recipe = load_recipe("continue")
    plans = [compile_plan(recipe, variant) for variant in recipe.variants]
    spans = predict(recipe, plans, "a100-40g", 16, price=None).spans
    assert spans[0].tokens == 0
    assert [span.tokens for span in spans[1:]] == pytest.approx([5e11] * len(plans), rel=1e-4)
