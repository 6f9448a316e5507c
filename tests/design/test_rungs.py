from fractions import Fraction
from itertools import pairwise

import pytest

from tinyllama.design.rungs import FEWEST_RUNGS, Rung, goal_of, ladder, narrower
from tinyllama.errors import PlanError
from tinyllama.plan import compile_plan, share_at
from tinyllama.recipe import Recipe, load_recipe

MODELS = [
    ("mini", "base"), ("mini", "math_code"), ("llama-360m", "code"), ("smol-135m", "math"), ("wsd-trunk", "chinese"),
]  # fmt: skip


@pytest.mark.parametrize("count", [FEWEST_RUNGS, 4, 6])
@pytest.mark.parametrize("name", ["nano", "mini", "llama-360m", "tinyllama-v1.1"])
def test_rungs_have_the_proportions_of_the_recipe_and_are_smaller(name: str, count: int) -> None:
    whole = load_recipe(name).model
    if name == "nano" and count == 6:
        pytest.skip("no six widths below 64")
    shapes = narrower(whole, count)
    for before, after in pairwise([*shapes, whole]):
        assert before.parameters < after.parameters
        assert before.width < after.width
    for shape in shapes:
        assert shape.layers == max(1, round(whole.layers * shape.width / whole.width))
        assert shape.ffn / shape.width == pytest.approx(whole.ffn / whole.width, rel=0.1)
        assert shape.head_size % 2 == 0
        assert shape.head_size == pytest.approx(whole.head_size, rel=0.6)
        assert shape.heads % shape.kv_heads == 0
        kept = ("context", "vocab_size", "rope_theta", "tied_embeddings", "norm_eps")
        assert [getattr(shape, key) for key in kept] == [getattr(whole, key) for key in kept]


@pytest.mark.parametrize(("name", "model"), MODELS)
def test_every_rung_is_a_family_of_decaying_branches_within_the_compute(name: str, model: str) -> None:
    recipe = load_recipe(name)
    goal = goal_of(recipe, model)
    rungs = ladder(goal, 4, 0.1)
    assert sum(rung.flops for rung in rungs) == pytest.approx(0.1 * goal.flops, rel=0.05)
    assert len({round(tokens / 1000) for rung in rungs for tokens in rung.ends.values()}) >= 3
    for rung in rungs:
        assert rung.recipe.corpora == recipe.corpora
        assert rung.recipe.tokenizer == recipe.tokenizer
        assert len(rung.ends) == 4
        assert list(rung.ends.values()) == sorted(set(rung.ends.values()))
        assert max(rung.ends.values()) <= goal.tokens
        for branch, tokens in rung.ends.items():
            plan = compile_plan(rung.recipe, branch)
            assert plan.tokens_after(plan.steps) == tokens
            peak = rung.recipe.optimizer.learning_rate.peak
            assert plan.lr[-1] < 0.5 * peak
            assert plan.lr[plan.fork_step - 1] == pytest.approx(peak)


def test_smaller_rungs_have_a_higher_peak_and_a_smaller_batch() -> None:
    rungs = ladder(goal_of(load_recipe("llama-360m"), "base"))
    peaks = [rung.recipe.optimizer.learning_rate.peak for rung in rungs]
    assert peaks == sorted(peaks, reverse=True)
    assert min(peaks) > load_recipe("llama-360m").optimizer.learning_rate.peak
    batches = [rung.sequences for rung in rungs]
    assert batches == sorted(batches)


def test_mup_keeps_the_peak_from_rung_to_rung() -> None:
    recipe = load_recipe("llama-360m", ["parametrization=mup", "base_width=256", "model.tied_embeddings=false"])
    peaks = [rung.recipe.optimizer.learning_rate.peak for rung in ladder(goal_of(recipe, "base"))]
    assert len(set(peaks)) == 1


def shares(recipe: Recipe, model: str, part: float) -> dict[str, Fraction]:
    line = recipe.line(model)
    return dict(share_at(line, model, int(part * line.end_tokens[-1])))


@pytest.mark.parametrize(("name", "model"), [("mini", "math_code"), ("nano", "chinese")])
def test_shares_change_at_the_same_part_of_every_branch(name: str, model: str) -> None:
    recipe = load_recipe(name)
    rung = ladder(goal_of(recipe, model), compute=0.3)[0]
    for branch in rung.ends:
        for part in (0.1, 0.4, 0.8, 1.0):
            assert shares(rung.recipe, branch, part) == shares(recipe, model, part), (branch, part)


def test_shares_that_change_late_do_so_inside_the_decay() -> None:
    stages = (
        "[{name: base, until: 90K, batch: 16 sequences}, {name: end, until: 100K, batch: 16 sequences, fork: true}]"
    )
    recipe = load_recipe("nano", [f"stages={stages}", "optimizer.learning_rate.horizon=100K"])
    goal = goal_of(recipe, "chinese")
    assert goal.fork == 0.8
    for rung in ladder(goal, 3, 1.0):
        assert shares(rung.recipe, "length-4", 0.85) == shares(recipe, "chinese", 0.85)
        assert shares(rung.recipe, "length-4", 1.0) == shares(recipe, "chinese", 1.0)


def tiny(compute: float) -> list[Rung]:
    return ladder(goal_of(load_recipe("nano"), "v1.1"), 3, compute)


def test_a_ladder_needs_steps_and_widths() -> None:
    assert all(rung.steps >= 8 for rung in tiny(0.1))
    with pytest.raises(PlanError, match=r"are needed; give more compute"):
        tiny(0.001)
    with pytest.raises(PlanError, match=r"has no 9 narrower ones"):
        ladder(goal_of(load_recipe("nano"), "v1.1"), 9)


@pytest.mark.parametrize(
    ("name", "model", "message"),
    [
        ("tinyllama-v1.0", "base", "not far below its peak"),
        ("wsd-trunk", "base", "not far below its peak"),
        ("continue", "v1.1", "random weights"),
        ("long-context", "long", "a ladder"),
    ],
)
def test_what_small_models_cannot_imitate_is_refused(name: str, model: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        goal_of(load_recipe(name), model)


def test_a_stage_of_another_context_is_refused() -> None:
    recipe = load_recipe("nano", ["stages.2.context=32"])
    with pytest.raises(PlanError, match=r"the context or the positions of v1\.1 change in a stage"):
        goal_of(recipe, "v1.1")


def test_shares_that_change_in_the_base_are_refused() -> None:
    first = "{name: first, until: 20K, batch: 16 sequences}"
    second = "{name: second, until: 60K, batch: 16 sequences, shares: {base: {code: 100%}}}"
    last = "{name: domain, until: 120K, batch: 16 sequences, fork: true}"
    recipe = load_recipe("nano", [f"stages=[{first}, {second}, {last}]"])
    with pytest.raises(PlanError, match="the shares of base change before chinese forks"):
        goal_of(recipe, "chinese")
