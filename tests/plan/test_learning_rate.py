"""Each schedule of the learning rate: against other libraries, against its second formula, and what may change."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import zeros
from torch.optim import SGD
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR
from transformers import get_wsd_schedule

from tinyllama.checkpoint.fingerprint import FingerprintInputs, fingerprint_inputs
from tinyllama.errors import CheckpointError, RecipeError
from tinyllama.plan import compile_plan
from tinyllama.plan.learning_rate import learning_rate
from tinyllama.plan.verification import verify_plan
from tinyllama.recipe import LearningRate, Recipe, dump_recipe, load_recipe

CONSTANT = "schedule: constant, minimum: null, horizon: null"
WSD = "schedule: wsd, decay_from: 50%, decay: linear, horizon: 100K"
STEPS = "schedule: piecewise, minimum: null, horizon: null, between: step"


def _nano(keys: str, *more: str) -> Recipe:
    """Nano with other keys of its learning rate; its peak is 4e-3, its minimum 4e-4 and its warm-up 4K tokens."""
    rate = {key: value for key, value in load_recipe("nano").optimizer.learning_rate.model_dump().items() if value}
    parts = [f"{key}: {value}" for key, value in rate.items() if f"{key}: " not in keys]
    return load_recipe("nano", [f"optimizer.learning_rate={{{', '.join([*parts, keys])}}}", *more])


def _rates(scheduler: LRScheduler, count: int) -> list[float]:
    rates = []
    for _ in range(count):
        rates.append(float(scheduler.get_last_lr()[0]))
        scheduler.optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("decay", ["linear", "cosine", "1-sqrt"])
@pytest.mark.parametrize(("minimum", "first"), [(0, 0), (0.25, 10)], ids=["whole", "after a warm-up from the minimum"])
def test_wsd_equals_transformers_get_wsd_schedule(decay: str, minimum: float, first: int) -> None:
    keys = {"peak": 1, "minimum": minimum, "warmup": 10, "decay_from": 60, "horizon": 90, "decay": decay}
    ours = LearningRate.model_validate({"schedule": "wsd", **keys})
    optimizer = SGD([zeros(1, requires_grad=True)], lr=1.0)
    theirs = get_wsd_schedule(optimizer, 10, 30, num_stable_steps=50, decay_type=decay, min_lr_ratio=minimum)
    rates = learning_rate(ours, np.arange(100))
    assert rates[first:] == pytest.approx(_rates(theirs, 100)[first:], rel=1e-12, abs=1e-15)


def test_steps_equal_torch_multi_step_lr() -> None:
    points = [{"tokens": 30, "factor": 0.5}, {"tokens": 80, "factor": 0.25}]
    ours = LearningRate.model_validate(
        {"schedule": "piecewise", "peak": 2.0, "warmup": 0, "points": points, "between": "step"}
    )
    theirs = MultiStepLR(SGD([zeros(1, requires_grad=True)], lr=2.0), [30, 80], gamma=0.5)
    assert learning_rate(ours, np.arange(100)).tolist() == _rates(theirs, 100)


@st.composite
def schedules(draw: st.DrawFn) -> LearningRate:
    schedule = draw(st.sampled_from(["cosine", "wsd", "constant", "piecewise"]))
    edges = sorted(draw(st.sets(st.integers(0, 300_000), min_size=3, max_size=9)))
    peak = draw(st.floats(1e-6, 1, allow_subnormal=False))
    keys: dict[str, object] = {"schedule": schedule, "peak": peak, "warmup": edges[0]}
    if schedule in {"cosine", "wsd"}:
        keys |= {"minimum": peak * draw(st.sampled_from([0, 1e-3, 0.1, 0.9])), "horizon": edges[2]}
    if schedule == "wsd":
        decays = ["linear", "cosine", "1-sqrt"] + (["exponential"] if keys["minimum"] else [])
        keys |= {"decay_from": edges[1], "decay": draw(st.sampled_from(decays))}
    if schedule == "piecewise":
        factors = draw(st.lists(st.sampled_from([0, 0.1, 0.316, 0.5, 1]), min_size=len(edges), max_size=len(edges)))
        points = [{"tokens": tokens, "factor": factor} for tokens, factor in zip(edges[1:], factors, strict=False)]
        keys |= {"points": points, "between": draw(st.sampled_from(["linear", "step"]))}
    return LearningRate.model_validate(keys)


def _with(schedule: LearningRate) -> Recipe:
    recipe = load_recipe("nano")
    return recipe.model_copy(update={"optimizer": recipe.optimizer.model_copy(update={"learning_rate": schedule})})


@settings(max_examples=60, deadline=None, derandomize=True)
@given(schedule=schedules())
def test_both_formulas_agree_at_every_step_of_any_schedule(schedule: LearningRate) -> None:
    recipe = _with(schedule)
    check = next(check for check in verify_plan(recipe, compile_plan(recipe, "v1.1")) if check.name == "learning rate")
    assert check.passed, check.detail


@settings(max_examples=60, deadline=None, derandomize=True)
@given(schedule=schedules())
def test_a_schedule_stays_between_0_and_its_peak_and_jumps_only_at_steps(schedule: LearningRate) -> None:
    edges = [schedule.warmup, schedule.decay_from, schedule.horizon, *(point.tokens for point in schedule.points)]
    around = np.array([edge for edge in edges if edge], np.int64)
    before, at, after = (learning_rate(schedule, around + shift) for shift in (-1, 0, 1))
    assert (np.stack([before, at, after]) >= 0).all()
    assert (at <= schedule.peak * (1 + 1e-12)).all()
    spans = np.diff(np.unique([0, *around]))
    if schedule.between == "step":
        assert (after == at)[around >= schedule.warmup].all()
    else:  # the steepest part is the beginning of 1-sqrt
        steepest = schedule.peak * max(np.sqrt(1 / spans.min(initial=10**6)), 8 / spans.min(initial=10**6))
        assert np.abs(np.diff([before, at, after], axis=0)).max(initial=0) <= steepest


@settings(max_examples=60, deadline=None, derandomize=True)
@given(schedule=schedules(), tokens=st.integers(0, 300_000))
def test_what_is_in_force_decides_the_rates_so_far(schedule: LearningRate, tokens: int) -> None:
    seen = np.unique(np.linspace(0, tokens, 50).astype(np.int64))
    assert (learning_rate(schedule.in_force(tokens), seen) == learning_rate(schedule, seen)).all()


@pytest.mark.parametrize("other", ["decay: cosine", "decay: 1-sqrt", "decay: exponential", "decay_from: 60%"])
def test_a_wrong_decay_is_found(other: str) -> None:
    recipe = _nano(WSD)
    wrong = ", ".join(part for part in WSD.split(", ") if part.split(":")[0] != other.split(":", maxsplit=1)[0])
    plan = compile_plan(_nano(f"{wrong}, {other}"), "v1.1")
    (found,) = [check for check in verify_plan(recipe, plan) if not check.passed]
    assert (found.name, "the schedule says" in found.detail) == ("learning rate", True)


def test_a_rate_that_is_not_a_number_is_found() -> None:
    recipe = _nano(CONSTANT)
    plan = compile_plan(recipe, "v1.1")
    broken = dataclasses.replace(plan, lr=np.full(plan.steps, np.nan))
    assert [check.name for check in verify_plan(recipe, broken) if not check.passed] == ["learning rate"]


def _inputs(recipe: Recipe, step: int) -> FingerprintInputs:
    plan = compile_plan(recipe, "v1.1")
    return fingerprint_inputs(recipe, plan, step, dict.fromkeys(recipe.corpora, "hash"), "tok")


def test_a_decay_that_has_not_begun_may_change_and_one_that_has_may_not() -> None:
    plan = compile_plan(_nano(WSD), "v1.1")
    last_at_peak = int(np.flatnonzero(plan.lr == plan.lr.max())[-1]) + 1
    later = _nano(WSD.replace("decay: linear", "decay: 1-sqrt"))
    assert _inputs(later, last_at_peak) == _inputs(_nano(WSD), last_at_peak) == _inputs(_nano(CONSTANT), last_at_peak)
    with pytest.raises(CheckpointError, match=r"made with optimizer.learning_rate.decay = linear, the recipe now says"):
        _inputs(_nano(WSD), last_at_peak + 1).refuse_change(_inputs(later, last_at_peak + 1), "a/step-9")


def test_a_share_of_the_horizon_is_kept_in_tokens() -> None:
    recipe = _nano(WSD.replace("50%", "1/3"))
    assert recipe.optimizer.learning_rate.decay_from == 33_334
    assert "decay_from: 33334" in dump_recipe(recipe)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("minimum: null", "learning_rate.minimum: schedule cosine needs this key"),
        ("decay: linear", "learning_rate.decay: schedule cosine does not use this key; remove it, or write null"),
        ("schedule: constant", "learning_rate.minimum: schedule constant does not use this key"),
        (STEPS, "learning_rate.points: schedule piecewise needs this key"),
        (f"{STEPS}, points: [{{tokens: 3K, factor: 1}}]", "points.0.tokens: 3000 must be above 4000, where the"),
        (WSD.replace("50%", "100%"), "decay_from: 100000 must be from warmup (4000) to below horizon (100000)"),
        (WSD.replace("linear", "exponential") + ", minimum: 0", "minimum: must be above 0, which an exponential"),
    ],
)  # fmt: skip
def test_a_contradiction_names_its_key(keys: str, told: str) -> None:
    with pytest.raises(RecipeError) as error:
        _nano(keys)
    assert told in str(error.value)
    assert str(error.value).startswith("--set optimizer.learning_rate=")


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (CONSTANT, "0.004, constant"),
        (WSD, "0.004 to 0.0004, constant and then a linear decay from 50K to 100K tokens"),
        (
            f"{STEPS}, points: [{{tokens: 9K, factor: 0.5}}]",
            "0.004 times 1 after the warm-up, then 0.5 at 9K tokens, in steps",
        ),
    ],
)
def test_a_schedule_describes_itself(keys: str, text: str) -> None:
    assert _nano(keys).optimizer.learning_rate.describe() == text
