from __future__ import annotations

import math

import pytest

from tinyllama.design.rungs import goal_of, ladder, narrower, narrowest
from tinyllama.design.transfer import Transfer
from tinyllama.design.tuning import Sweep, best_peak, first_exponents, next_exponent
from tinyllama.errors import PlanError
from tinyllama.recipe import Recipe, load_recipe

UNTIED = "model.tied_embeddings=false"


def sweep_of(recipe: Recipe, model: str, transfer: Transfer = Transfer.MUP) -> Sweep:
    return Sweep(goal_of(recipe, model), transfer, 0.25)


def test_trials_are_the_smallest_rung_and_differ_in_the_peak_alone() -> None:
    recipe = load_recipe("llama-360m", [UNTIED])
    sweep = sweep_of(recipe, "english")
    trials = [sweep.trial(exponent, 0) for exponent in first_exponents(5)]
    rate = recipe.optimizer.learning_rate.peak
    assert [trial.peak for trial in trials] == pytest.approx([rate * factor for factor in (0.25, 0.5, 1, 2, 4)])
    smallest = ladder(goal_of(recipe, "english"))[0]
    for trial in trials:
        assert trial.rung.shape == smallest.shape == narrowest(recipe.model)
        assert trial.rung.trained_tokens == pytest.approx(0.25 * sweep.goal.tokens, rel=0.01)
        own = trial.rung.recipe.optimizer.learning_rate.peak
        assert own == pytest.approx(trial.peak * 0.25**-0.125, rel=1e-3)
    assert len({trial.rung.name for trial in trials}) == 5


def test_mup_has_its_base_width_at_the_trials_and_keeps_the_batch() -> None:
    recipe = load_recipe("llama-360m", [UNTIED])
    rung = sweep_of(recipe, "english").trial(0, 0).rung
    assert (rung.recipe.parametrization, rung.recipe.base_width) == ("mup", rung.shape.width)
    assert rung.recipe.widening == 1
    assert rung.sequences == recipe.batch_sequences(recipe.stages[0])


def test_by_the_compute_trials_are_as_a_ladder_would_train_them() -> None:
    sweep = sweep_of(load_recipe("llama-360m"), "english", Transfer.COMPUTE)
    rung = sweep.trial(0, 0).rung
    part = rung.flops / sweep.goal.flops
    rate = sweep.goal.recipe.optimizer.learning_rate.peak
    assert rung.recipe.parametrization == "standard"
    assert rung.recipe.optimizer.learning_rate.peak == pytest.approx(rate * part**-0.125, rel=1e-2)
    assert rung.sequences < sweep.goal.sequences


@pytest.mark.parametrize(
    ("name", "model", "transfer"),
    [
        ("mini", "math_code", Transfer.MUP), ("wsd-trunk", "chinese", Transfer.MUP),
        ("smol-135m", "math", Transfer.COMPUTE),
    ],
)  # fmt: skip
def test_a_recipe_with_the_keys_that_are_told_has_the_trial_of_that_peak(
    name: str, model: str, transfer: Transfer
) -> None:
    before = load_recipe(name)
    sweep = sweep_of(before, model, transfer)
    tried = sweep.trial(1, 0)
    keys = sweep.keys(tried.peak)
    recipe = load_recipe(name, [f"{key}={value}" for key, value in keys.items()])
    rate = recipe.optimizer.learning_rate
    assert rate.peak == pytest.approx(2 * before.optimizer.learning_rate.peak)
    if rate.minimum:
        assert rate.minimum == pytest.approx(2 * (before.optimizer.learning_rate.minimum or 0))
    again = sweep_of(recipe, model, transfer).trial(0, 0)
    assert again.rung.recipe == tried.rung.recipe
    assert again.rung.name == tried.rung.name


def test_a_recipe_in_mup_keeps_its_base_width() -> None:
    recipe = load_recipe("llama-360m", [UNTIED, "parametrization=mup", "base_width=512"])
    sweep = sweep_of(recipe, "english")
    assert sweep.trial(0, 0).rung.recipe.base_width == 512
    assert "base_width" not in sweep.keys(1e-3)


def test_seeds_have_trials_of_their_own() -> None:
    sweep = sweep_of(load_recipe("mini", ["seed=7"]), "v1.1")
    first, second = (sweep.trial(0, seed) for seed in range(2))
    assert (first.rung.recipe.seed, second.rung.recipe.seed) == (7, 8)
    assert first.rung.name != second.rung.name


def test_rungs_differ_in_the_compute_and_have_trials_of_their_own() -> None:
    sweep = Sweep(goal_of(load_recipe("llama-360m"), "english"), Transfer.COMPUTE, 0.25, rungs=3)
    assert sweep.shapes == narrower(sweep.goal.shape, 3)
    trials = [sweep.trial(0, 0, number) for number in (1, 2, 3)]
    assert [trial.rung.shape for trial in trials] == sweep.shapes
    assert trials[0] == sweep_of(sweep.goal.recipe, "english", Transfer.COMPUTE).trial(0, 0)
    assert len({trial.rung.name for trial in trials}) == 3
    flops = [trial.rung.flops for trial in trials]
    assert flops == sorted(set(flops))
    for trial in trials:
        part = trial.rung.flops / sweep.goal.flops
        assert trial.rung.recipe.optimizer.learning_rate.peak == pytest.approx(trial.peak * part**-0.125, rel=1e-2)


def test_several_rungs_are_refused_where_mup_keeps_the_peak() -> None:
    goal = goal_of(load_recipe("mini"), "v1.1")
    with pytest.raises(PlanError, match=r"--rungs 2: .* leave the option out, or write --transfer compute$"):
        Sweep(goal, Transfer.MUP, 0.25, rungs=2)
    goal = goal_of(load_recipe("mini", ["parametrization=mup"]), "v1.1")
    with pytest.raises(PlanError, match=r"--rungs 2: .* leave the option out$"):
        Sweep(goal, Transfer.MUP, 0.25, rungs=2)


def test_what_does_not_transfer_is_refused() -> None:
    with pytest.raises(PlanError, match=r"model\.tied_embeddings: .* write --transfer compute"):
        sweep_of(load_recipe("smol-135m"), "math")
    recipe = load_recipe("mini", ["parametrization=mup"])
    with pytest.raises(PlanError, match=r"parametrization: mup transfers peaks by the width"):
        sweep_of(recipe, "v1.1", Transfer.COMPUTE)
    with pytest.raises(PlanError, match="has no narrower one to try peaks on"):
        narrowest(load_recipe("nano").model.model_copy(update={"width": 8}))


def test_the_next_peak_is_beside_the_best_as_long_as_that_is_an_end() -> None:
    assert next_exponent({-1: 3.0, 0: 2.9, 1: 3.1}) is None
    assert next_exponent({-1: 2.8, 0: 2.9, 1: 3.1}) == -2
    assert next_exponent({-1: 3.0, 0: 2.9, 1: 2.8}) == 2
    assert next_exponent({-1: 3.0, 0: 2.9, 1: math.inf}) is None
    assert next_exponent({-1: math.inf, 0: math.inf, 1: math.inf}) == -2


def test_the_best_peak_is_the_lowest_point_of_a_parabola() -> None:
    sweep = sweep_of(load_recipe("mini"), "v1.1")
    own = sweep.goal.recipe.optimizer.learning_rate.peak
    best = best_peak(sweep, {power: 3 + 0.1 * (power - 0.3) ** 2 for power in range(-2, 3)})
    assert best.exponent == pytest.approx(0.3)
    assert best.peak == pytest.approx(own * 2**0.3, rel=5e-3)
    assert best.is_bracketed
    assert best.loss == pytest.approx(3.009)


def test_without_two_neighbors_the_best_trial_itself_counts() -> None:
    sweep = sweep_of(load_recipe("mini"), "v1.1")
    own = sweep.goal.recipe.optimizer.learning_rate.peak
    last = best_peak(sweep, {-1: 3.0, 0: 2.9, 1: 2.8})
    assert (last.peak, last.is_bracketed) == (pytest.approx(2 * own), False)
    beside = best_peak(sweep, {-1: 3.0, 0: 2.9, 1: math.inf})
    assert (beside.peak, beside.is_bracketed) == (pytest.approx(own), True)
    flat = best_peak(sweep, {-1: 3.0, 0: 3.0, 1: 3.0})
    assert not flat.is_bracketed
    with pytest.raises(PlanError, match="the trials diverge at every peak from"):
        best_peak(sweep, {-1: math.inf, 0: math.inf})
