"""The flagship's plan, pinned."""

import resource
import time

import numpy as np
import pytest

from tinyllama.plan import Plan, compile_plan, summarize
from tinyllama.recipe import load_recipe

RECIPE = load_recipe("tinyllama-v1.1")
BATCH, COOLDOWN_BATCH = 1_802_240, 7_208_960


@pytest.fixture(scope="module", params=["v1.1", "math_code", "chinese"])
def plan(request: pytest.FixtureRequest) -> Plan:
    return compile_plan(RECIPE, request.param)


def test_stages_end_with_the_first_step_that_reaches_their_boundary(plan: Plan) -> None:
    assert plan.stage_steps() == [
        ("base", 0, 832_298),
        ("domain", 832_298, 1_026_501),
        ("cooldown", 1_026_501, 1_047_309),
    ]
    for (_, _, end), boundary in zip(plan.stage_steps(), (1.5e12, 1.85e12, 2e12), strict=True):
        assert plan.tokens_after(end - 1) < boundary <= plan.tokens_after(end)
    assert plan.tokens_after(832_298) == 1_500_000_747_520


def test_batches_are_880_sequences_and_3520_in_the_cooldown(plan: Plan) -> None:
    sizes = [set((plan.batch[first:end] * 2048).tolist()) for _, first, end in plan.stage_steps()]
    assert sizes == [{BATCH}, {BATCH}, {COOLDOWN_BATCH}]


def test_the_learning_rate_is_one_cosine_with_2000_warm_up_steps(plan: Plan) -> None:
    assert plan.lr[0] == pytest.approx(4e-4 / 2000)
    assert plan.lr[1999] == pytest.approx(4e-4)
    assert plan.lr.argmax() == 1999
    assert plan.lr[832_297] == pytest.approx(9.29012432e-5, rel=1e-8)
    assert plan.lr[1_026_500] == pytest.approx(4.49912290e-5, rel=1e-8)
    assert plan.lr[-1] == pytest.approx(4e-5)
    assert (np.diff(plan.lr[2000:]) <= 0).all()


def test_the_learning_rate_has_no_jump_where_stages_meet(plan: Plan) -> None:
    for step in (832_298, 1_026_501):
        fall_before = plan.lr[step - 2] - plan.lr[step - 1]
        fall_after = (plan.lr[step - 1] - plan.lr[step]) * plan.batch[step - 1] / plan.batch[step]
        assert fall_after == pytest.approx(fall_before, rel=1e-2)


def test_shares_ramp_over_six_billion_tokens_and_then_stay() -> None:
    plan = compile_plan(RECIPE, "math_code")
    assert plan.corpora == ("slimpajama", "starcoder", "proof_pile")
    assert (plan.counts[:832_298, 0] == 880).all()
    ramp_steps = 6_000_000_000 / BATCH
    half = 832_298 + int(ramp_steps / 2)
    assert plan.counts[half].tolist() == pytest.approx([770, 66, 44], abs=1)
    after = plan.counts[832_298 + int(ramp_steps) + 2 : 1_026_501]
    assert np.abs(after - np.array([660, 132, 88])).max() <= 1
    assert np.abs(plan.counts[1_026_501:] - np.array([2640, 528, 352])).max() <= 1


@pytest.mark.parametrize(
    ("variant", "tokens"),
    [
        ("v1.1", {"slimpajama": 2_000_005_201_920}),
        ("math_code", {"slimpajama": 1_875_754_088_448, "starcoder": 74_550_669_312, "proof_pile": 49_700_444_160}),
        ("chinese", {"slimpajama": 1_751_502_974_976, "skypile": 248_502_226_944}),
    ],
)
def test_tokens_per_corpus(variant: str, tokens: dict[str, int]) -> None:
    summary = summarize(compile_plan(RECIPE, variant), RECIPE)
    assert {corpus.name: corpus.tokens for corpus in summary.corpora} == tokens


def test_a_variant_compiles_in_bounded_memory() -> None:
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    compile_plan(RECIPE, "math_code")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 500 * 1024
    # A pathology guard, not a benchmark: it takes under 2 s of one core's time.
    assert time.process_time() - began < 60
