"""Recipes drawn from all that schedules, stages, contexts and branches can say together."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plan.test_contexts import MIXTURES, rehearsed
from tests.plan.test_learning_rate import schedules
from tinyllama.plan import compile_plan
from tinyllama.recipe import LearningRate, Recipe, load_recipe


def _rate(schedule: LearningRate) -> str:
    """A schedule as an override, with a warm-up that ends before any fork."""
    keys = schedule.model_copy(update={"warmup": min(schedule.warmup, 4_000)}).model_dump(mode="json")
    stated = {key: value for key, value in keys.items() if value not in (None, [])}
    return f"optimizer.learning_rate={json.dumps(stated)}"


def _stage(draw: st.DrawFn, name: str, until: int) -> dict[str, Any]:
    """A stage with a batch, and maybe a context and a factor of the learning rate of its own."""
    stage: dict[str, Any] = {"name": name, "until": until, "batch": f"{draw(st.sampled_from([3, 5, 16]))} sequences"}
    if context := draw(st.sampled_from([0, 0, 16, 96, 256])):
        stage |= {"context": context, "rope_theta": 40_000}
    if factor := draw(st.sampled_from([0, 0, 0.5, 2])):
        stage["learning_rate_factor"] = factor
    return stage


@st.composite
def families(draw: st.DrawFn) -> Recipe:
    """Two or three stages of the base, as many of the variants, and a branch of either; rates of any schedule."""
    schedule = draw(schedules())
    until, stages = 0, list[dict[str, Any]]()
    fork = draw(st.integers(1, 2))
    for index in range(fork + draw(st.integers(1, 3))):
        until += draw(st.integers(9_000, 25_000))
        stage = _stage(draw, f"s{index}", until)
        ramp = draw(st.sampled_from([0, 999, 2_000]))
        if index == fork:
            stage |= {"fork": True, "ramp": ramp}
        elif index and draw(st.booleans()):
            own = draw(st.sampled_from(MIXTURES))
            stage |= {"shares": {"math_code" if index > fork else "base": own}, "ramp": ramp}
        stages.append(stage)
    parent = draw(st.sampled_from(["base", "math_code"]))
    begin, end = (0, fork - 1) if parent == "base" else (stages[fork - 1]["until"], -1)
    point = draw(st.integers(min(begin + 8_000, stages[end]["until"]), stages[end]["until"]))
    branch = {
        "from": f"{parent}@{point}",
        "shares": draw(st.sampled_from(MIXTURES)),
        "ramp": 700,
        "stages": [_stage(draw, "own", point + 12_000)],
    }
    if schedule.schedule == "constant" and draw(st.booleans()):
        shape = draw(st.sampled_from(["linear", "cosine", "1-sqrt", "exponential"]))
        branch["decay"] = {"shape": shape, "minimum": schedule.peak / 10}
    found = {"stages": stages, "branches": {"late": branch}}
    return load_recipe("nano", [_rate(schedule), *(f"{key}={json.dumps(value)}" for key, value in found.items())])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(recipe=families())
def test_quotas_epochs_rates_and_forks_hold_for_any_recipe(recipe: Recipe) -> None:
    for result in rehearsed(recipe):
        assert [f"{result.variant}: {check.name}: {check.detail}" for check in result.checks if not check.passed] == []
    for name in recipe.models[1:]:
        plan, parent = compile_plan(recipe, name), compile_plan(recipe, recipe.parent(name))
        fork = plan.fork_step
        assert 0 < fork <= parent.steps
        for column in ("lr", "before", "contexts", "batch", "tokens"):
            assert (getattr(plan, column)[:fork] == getattr(parent, column)[:fork]).all(), column
