"""Shares, ramps and learning-rate factors of single stages."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyllama.errors import PlanError, RecipeError
from tinyllama.plan import Plan, compile_plan, quota_at, share_at
from tinyllama.plan.verification import verify_plan
from tinyllama.recipe import Recipe, load_recipe

MIXTURES = ["{prose: 100%}", "{prose: 1/3, code: 2/3}", "{code: 15%, arithmetic: 85%}", "{prose: 7%, chinese: 93%}"]


def _recipe(base: str, variant: str, ramps: tuple[int, int] = (0, 0), factor: float = 1) -> Recipe:
    stages = (
        "{name: first, until: 40K, batch: 8 sequences}, "
        f"{{name: second, until: 60K, batch: 8 sequences, shares: {{base: {base}}}, ramp: {ramps[0]}}}, "
        "{name: domain, until: 80K, batch: 16 sequences, fork: true, ramp: 5K}, "
        f"{{name: last, until: 120K, batch: 32 sequences, shares: {{math_code: {variant}}}, ramp: {ramps[1]}, "
        f"learning_rate_factor: {factor}}}"
    )
    return load_recipe("nano", [f"stages=[{stages}]"])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    base=st.sampled_from(MIXTURES[:2]),
    variant=st.sampled_from(MIXTURES),
    ramps=st.tuples(st.integers(0, 18_000), st.integers(0, 30_000)),
    factor=st.sampled_from([0.5, 1, 2]),
)
def test_quotas_and_rates_hold_whatever_stages_change(
    base: str, variant: str, ramps: tuple[int, int], factor: float
) -> None:
    recipe = _recipe(base, variant, ramps, factor)
    whole = compile_plan(recipe)
    for name in ("v1.1", "math_code", None):
        plan = compile_plan(recipe, name)
        assert [check.detail for check in verify_plan(recipe, plan) if not check.passed] == []
        for step in range(1, plan.steps):
            quotas = [quota_at(recipe, name, corpus, int(plan.before[step])) for corpus in plan.corpora]
            assert sum(quotas) == plan.before[step]
            assert all(abs(quota - int(has)) < 1 for quota, has in zip(quotas, plan.taken[step], strict=True))
        assert (plan.lr[: whole.steps] == whole.lr).all()


def test_a_stage_changes_no_step_before_it() -> None:
    one, other = (compile_plan(_recipe(MIXTURES[1], mixture), "math_code") for mixture in MIXTURES[1:3])
    (_, _, end) = one.stage_steps()[2]
    for corpus in set(one.corpora) & set(other.corpora):
        columns = [plan.counts[:end, plan.corpora.index(corpus)] for plan in (one, other)]
        assert (columns[0] == columns[1]).all()


def test_a_share_table_of_the_wrong_stage_is_found() -> None:
    recipe = _recipe(MIXTURES[1], MIXTURES[2])
    wrong: Plan = compile_plan(_recipe(MIXTURES[0], MIXTURES[2]), "math_code")
    assert [check.name for check in verify_plan(recipe, wrong) if not check.passed] == ["quota"]


def test_a_factor_of_the_wrong_stage_is_found() -> None:
    recipe = _recipe(MIXTURES[1], MIXTURES[2], factor=0.5)
    wrong = compile_plan(_recipe(MIXTURES[1], MIXTURES[2]), "math_code")
    assert [check.name for check in verify_plan(recipe, wrong) if not check.passed] == ["learning rate"]


def test_shares_follow_the_ramp_of_their_stage() -> None:
    recipe = _recipe(MIXTURES[1], MIXTURES[2], (10_000, 0))
    begin = int(compile_plan(recipe).tokens_after(compile_plan(recipe).stage_steps()[1][1]))
    shares = [share_at(recipe, None, begin + tokens)["code"] for tokens in (0, 5_000, 10_000)]
    assert shares == pytest.approx([0, 1 / 3, 2 / 3])
    assert np.isclose(share_at(recipe, "math_code", 119_000)["arithmetic"], 0.85)


def test_a_ramp_that_whole_steps_cut_off_is_refused() -> None:
    recipe = _recipe(MIXTURES[1], MIXTURES[2], (20_000, 0))  # the first stage ends at 40,448, so the ramp at 60,448
    second = recipe.stages[1].model_copy(update={"until": 60_400, "ramp": 20_400})
    cut = recipe.model_copy(update={"stages": [recipe.stages[0], second, *recipe.stages[2:]]})
    with pytest.raises(PlanError, match=r"stages.2.shares: the ramp before has not ended"):
        compile_plan(cut, "math_code")


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("stages.2.shares={math_code: {prose: 100%}}", "this stage begins with the shares of base or variants"),
        ("stages.1.shares={math_code: {prose: 100%}}", "stage second trains base, not 'math_code'"),
        ("stages.3.shares={math_code: {prose: 90%}}", "stages.3.shares.math_code: shares add up to 90%, not 100%"),
    ],
)
def test_shares_of_another_models_stage_are_refused(key: str, told: str) -> None:
    recipe = _recipe(MIXTURES[1], MIXTURES[2]).model_dump(mode="json", exclude_none=True)
    with pytest.raises(RecipeError, match=told):
        load_recipe(
            "nano",
            [f"stages={recipe['stages']}".replace("'", '"').replace("False", "false").replace("True", "true"), key],
        )
