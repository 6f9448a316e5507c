"""Trees of forks: whatever is drawn, a branch's plan is its parent's up to the fork, and then its own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyllama.checkpoint.fingerprint import fingerprint_inputs
from tinyllama.errors import RecipeError
from tinyllama.plan import Plan, compile_plan, quota_at
from tinyllama.recipe import Recipe, dump_recipe, load_recipe
from tinyllama.sampler import rehearse
from tinyllama.sampler.rehearsal import Parts

CONSTANT = "optimizer.learning_rate={schedule: constant, peak: 4e-3, warmup: 4K}"
MIXTURES: list[dict[str, str]] = [
    {},
    {"prose": "1/3", "code": "2/3"},
    {"code": "15%", "arithmetic": "85%"},
    {"prose": "7%", "chinese": "93%"},
]
ROWS = {"prose": 501, "code": 77, "arithmetic": 13, "chinese": 120}


def tree(**branches: object) -> Recipe:
    return load_recipe("nano", [CONSTANT, f"branches={json.dumps(branches)}"])


def branch(origin: str, until: str, **keys: object) -> dict[str, object]:
    return {"from": origin, "stages": [{"name": f"to-{until}", "until": until, "batch": "16 sequences"}], **keys}


@st.composite
def trees(draw: st.DrawFn) -> Recipe:
    """Up to four branches of the base, of a variant and of each other."""
    spans, decayed = {"base": (0, 60_416), "math_code": (60_416, 120_000)}, set[str]()
    branches: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=True)):
        parent = draw(st.sampled_from(sorted(spans)))
        begin, end = spans[parent]
        # Past the ramps of 10K and 1K, and past the warm-up.
        point = draw(st.none() | st.integers(min(begin + 13_000, end), end))
        at, seen = ("", end) if point is None else (f"@{point}", point)
        lengths = draw(st.lists(st.integers(4_100, 20_000), min_size=1, max_size=2))
        untils = (seen + np.cumsum(lengths)).tolist()
        stages = [
            {"name": f"{name}{i}", "until": until, "batch": f"{draw(st.sampled_from([5, 16, 32]))} sequences"}
            for i, until in enumerate(untils)
        ]
        if len(stages) > 1 and draw(st.booleans()):
            stages[1] |= {"shares": {name: {"prose": "100%"}}, "ramp": 500}
        own = draw(st.sampled_from(MIXTURES))
        branches[name] = {"from": f"{parent}{at}", "shares": own, "ramp": 1000 if own else 0, "stages": stages}
        if parent not in decayed and draw(st.booleans()):
            branches[name]["decay"] = {"shape": draw(st.sampled_from(["linear", "1-sqrt"])), "minimum": "1e-5"}
            decayed.add(name)
        decayed |= {name} if parent in decayed else set()
        spans[name] = (seen + 2048, untils[-1])
    return tree(**dict(reversed(branches.items())))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(recipe=trees())
def test_quotas_rates_and_rows_hold_on_every_path_of_a_tree(recipe: Recipe) -> None:
    for result in rehearse(recipe, ROWS, list(recipe.branches), lambda *_: None):
        assert [f"{result.variant}: {check.detail}" for check in result.checks if not check.passed] == []
    hashes = dict.fromkeys(recipe.corpora, "hash")
    for name, stated in recipe.branches.items():
        plan, parent = compile_plan(recipe, name), compile_plan(recipe, stated.parent)
        fork = plan.fork_step
        if stated.point:
            assert parent.tokens_after(fork - 1) < int(stated.point) <= parent.tokens_after(fork)
        assert (plan.lr[:fork] == parent.lr[:fork]).all()
        assert (plan.before[:fork] == parent.before[:fork]).all()
        for index, corpus in enumerate(plan.corpora):
            if corpus in parent.corpora:
                assert (plan.counts[:fork, index] == parent.counts[:fork, parent.corpora.index(corpus)]).all()
            quota = quota_at(recipe, name, corpus, int(plan.before[-1]))
            assert abs(quota - int(plan.taken[-1, index])) < 1
        inputs = [fingerprint_inputs(recipe, one, fork, hashes, "tokenizer") for one in (plan, parent)]
        assert inputs[0] == inputs[1], "the checkpoint at the fork is the parent's"
        assert recipe.own_tokens(name) == plan.tokens_after(plan.steps) - plan.tokens_after(fork)


@pytest.mark.parametrize(("tokens", "step"), [("30_719", 30), ("30_720", 30), ("30_721", 31), ("60_416", 59)])
def test_a_branch_forks_at_the_first_step_whose_end_reaches_its_tokens(tokens: str, step: int) -> None:
    assert compile_plan(tree(early=branch(f"base@{tokens}", "70K")), "early").fork_step == step


def test_branches_change_nothing_for_other_models() -> None:
    plain, grown = tree(), tree(late=branch("math_code@100K", "130K"), early=branch("base@30K", "50K"))
    for name in plain.models:
        one, other = compile_plan(plain, name), compile_plan(grown, name)
        assert (one.counts == other.counts).all()
        inputs = [
            fingerprint_inputs(recipe, plan, plan.steps, dict.fromkeys(recipe.corpora, ""), "")
            for recipe, plan in ((plain, one), (grown, other))
        ]
        assert inputs[0] == inputs[1]
    assert "branches" not in inputs[0].root


def test_a_branch_is_written_and_read_again(tmp_path: Path) -> None:
    recipe = tree(early=branch("base@30K", "50K", decay={"shape": "linear", "minimum": "0"}))
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(str(tmp_path / "recipe.yaml")) == recipe


def test_a_decay_goes_from_the_fork_to_the_end_of_its_branch() -> None:
    recipe = tree(early=branch("base@30K", "51_200", decay={"shape": "linear", "minimum": "1e-5"}))
    plan = compile_plan(recipe, "early")
    assert plan.lr[plan.fork_step - 1] == 4e-3
    assert plan.lr[-1] == 1e-5
    tokens = np.array([plan.tokens_after(step + 1) for step in range(plan.fork_step, plan.steps)])
    begin = plan.tokens_after(plan.fork_step)
    np.testing.assert_allclose(plan.lr[plan.fork_step :], 4e-3 - (4e-3 - 1e-5) * (tokens - begin) / (51_200 - begin))


def test_the_last_shared_step_has_the_parents_rate_to_the_last_bit() -> None:
    constant = "optimizer.learning_rate={schedule: constant, peak: 0.5632632414147826, warmup: 0}"
    early = branch("base@30K", "50K", decay={"shape": "linear", "minimum": "0.05632632414147826"})
    recipe = load_recipe("nano", [constant, f"branches={json.dumps({'early': early})}"])
    plan = compile_plan(recipe, "early")
    assert plan.lr[plan.fork_step - 1] == compile_plan(recipe).lr[plan.fork_step - 1]


RECIPE = tree(early=branch("base@30K", "50K", shares=MIXTURES[1]), late=branch("early@40K", "60K"))


def _moved(name: str, point: str) -> Callable[[Recipe, str | None], Plan]:
    """A planner that lets a branch fork at another point."""
    moved = RECIPE.branches[name].model_copy(update={"from_": point})
    other = RECIPE.model_copy(update={"branches": RECIPE.branches | {name: moved}})

    def compile_moved(_: Recipe, model: str | None) -> Plan:
        return compile_plan(other if model == name else RECIPE, model)

    return compile_moved


@pytest.mark.parametrize(
    ("name", "point", "found"),
    [
        ("early", "base@32K", "it forks after step 32, and the recipe says after step 30 of base's"),
        ("late", "early@41K", "it forks after step 41, and the recipe says after step 40 of early's"),
        ("late", "base@40K", "it does not begin with early's steps"),
    ],
)
def test_the_rehearsal_finds_a_branch_from_the_wrong_step(name: str, point: str, found: str) -> None:
    (result,) = rehearse(RECIPE, ROWS, [name], lambda *_: None, Parts(compile=_moved(name, point)))
    assert found in {check.detail for check in result.checks if not check.passed}


@pytest.mark.parametrize(
    ("branches", "told"),
    [
        ({"a": branch("bse", "70K")}, "branches.a.from: no model is named 'bse'; did you mean 'base'?"),
        ({"a": branch("b", "70K"), "b": branch("a", "70K")}, "branches.a.from: does not descend from base: a from b"),
        ({"a": branch("base@soon", "70K")}, "branches.a.from: 'soon' is neither a number of tokens nor a stage of"),
        ({"a": branch("base@70K", "80K")}, "branches.a.from: base is trained from 0 to 60.42K tokens, which 70K is"),
        ({"a": branch("math_code@65K", "80K")}, "branches.a.from: the ramp of stage domain has not ended there"),
        ({"a": branch("base", "60.1K")}, "branches.a.stages.0.until: stage to-60.1K has no step"),
        ({"a": branch("base@30K", "20K")}, "branches.a.stages.0.until: stage to-20K must end after stage base"),
        ({"a": branch("base", "70K", ramp="1K")}, "branches.a.ramp: a ramp needs shares to change to"),
        ({"a": branch("base", "70K", shares={"prose": "90%"})}, "branches.a.shares: shares add up to 90%, not 100%"),
        (
            {"a": branch("base@3K", "9K", decay={"shape": "linear", "minimum": "0"})},
            "branches.a.decay: needs a constant",
        ),
        ({"a": branch("base", "70K", decay={"shape": "linear", "minimum": "1"})}, "minimum: must be below the peak"),
        ({"a": branch("base", "70K", decay={"shape": "exponential", "minimum": "0"})}, "minimum: must be above 0"),
        ({"base": branch("base", "70K")}, "branches.base: 'base' is the name of the shared base"),
        ({"v1.1": branch("base", "70K")}, "branches.v1.1: "),
    ],
)
def test_a_branch_that_cannot_be_is_refused_by_its_key(branches: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        tree(**branches)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("stages.1.fork=true", "stages.1.fork: no variants fork here"),
        ("branches.early.stages.0.fork=true", "stages.0.fork: a branch forks where `from` says"),
        ("branches.early.stages.0.shares={early: {code: 100%}}", "write shares of early here, and those of its first"),
        ("branches.early.from=base@", "branches.early.from: 'base@' names no fork"),
    ],
)
def test_a_trunk_without_variants_is_checked_too(override: str, told: str) -> None:
    stages = "stages=[{name: one, until: 30K, batch: 16 sequences}, {name: two, until: 60K, batch: 16 sequences}]"
    early = f"branches={json.dumps({'early': branch('base@one', '50K')})}"
    recipe = load_recipe("nano", [CONSTANT, "variants={}", stages, early])
    assert recipe.models == recipe.planned == ["base", "early"]
    assert compile_plan(recipe, "early").fork_step == 30
    with pytest.raises(RecipeError) as caught:
        load_recipe("nano", [CONSTANT, "variants={}", stages, early, override])
    assert told in str(caught.value)
