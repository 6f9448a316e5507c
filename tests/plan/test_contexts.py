"""Stages with a context of their own: quotas, epochs and orders of each pair of corpus and context."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyllama.checkpoint.fingerprint import fingerprint_inputs
from tinyllama.corpus.rows import row_count
from tinyllama.errors import PlanError, RecipeError
from tinyllama.plan import Plan, compile_plan, quota_at, sequences_at, summarize
from tinyllama.plan.tables import plan_markdown, repetitions
from tinyllama.recipe import Recipe, load_recipe
from tinyllama.recipe.quantities import Batch
from tinyllama.sampler import Rehearsal, Sampler, rehearse
from tinyllama.sampler.rehearsal import Parts

TOKENS = {"prose": 32_000, "code": 5_000, "arithmetic": 900, "chinese": 7_700}
"""Of each corpus; small, so that epochs end often."""
MIXTURES: list[dict[str, str]] = [
    {"prose": "1/3", "code": "2/3"},
    {"code": "15%", "arithmetic": "85%"},
    {"prose": "7%", "chinese": "93%"},
]
CONSTANT = "optimizer.learning_rate={schedule: constant, peak: 4e-3, warmup: 4K}"


def _rows(recipe: Recipe) -> dict[str, int]:
    partitions = [(size, *pair) for name, size in TOKENS.items() for pair in recipe.partitions(name).items()]
    return {partition: row_count(size, context) for size, partition, context in partitions}


def rehearsed(recipe: Recipe, parts: Parts | None = None) -> list[Rehearsal]:
    return list(rehearse(recipe, _rows(recipe), recipe.models[1:], lambda *_: None, parts or Parts()))


def _failures(recipe: Recipe, parts: Parts | None = None) -> dict[str, str]:
    results = rehearsed(recipe, parts)
    return {check.name: check.detail for result in results for check in result.checks if not check.passed}


def _family(stages: list[dict[str, Any]], branches: dict[str, Any] | None = None) -> Recipe:
    return load_recipe("nano", [CONSTANT, f"stages={json.dumps(stages)}", f"branches={json.dumps(branches or {})}"])


@st.composite
def families(draw: st.DrawFn) -> Recipe:
    """Stages of the base and the variants, and a branch, each with the model's context of 64 or another."""
    until, stages = 0, list[dict[str, Any]]()
    for index in range(draw(st.integers(3, 5))):
        until += draw(st.integers(9_000, 25_000))
        stage: dict[str, Any] = {"name": f"s{index}", "until": until}
        stage["batch"] = f"{draw(st.sampled_from([3, 5, 16]))} sequences"
        if context := draw(st.sampled_from([0, 0, 16, 96, 256])):
            stage |= {"context": context, "rope_theta": 40_000}
        if index == 1:
            stage |= {"fork": True, "ramp": draw(st.sampled_from([0, 2_000]))}
        elif index > 1 and draw(st.booleans()):
            stage |= {"shares": {"math_code": draw(st.sampled_from(MIXTURES))}, "ramp": draw(st.sampled_from([0, 999]))}
        stages.append(stage)
    point = draw(st.integers(5_000, stages[0]["until"]))
    own = {"name": "own", "until": point + 12_000, "batch": "8 sequences", "context": draw(st.sampled_from([64, 128]))}
    return _family(stages, {"late": {"from": f"base@{point}", "shares": MIXTURES[0], "ramp": 700, "stages": [own]}})


@settings(max_examples=15, deadline=None, derandomize=True)
@given(recipe=families())
def test_each_pair_of_corpus_and_context_keeps_its_quota_and_its_epochs(recipe: Recipe) -> None:
    for result in rehearsed(recipe):
        assert [f"{result.variant}: {check.detail}" for check in result.checks if not check.passed] == []
    for name in recipe.models[1:]:
        plan, seen = compile_plan(recipe, name), dict[int, int]()
        assert (np.diff(plan.tokens, prepend=0) == plan.batch.astype(np.int64) * plan.contexts).all()
        for step in range(plan.steps):
            context = int(plan.contexts[step])
            quotas = [quota_at(recipe, name, corpus, seen.get(context, 0), context) for corpus in plan.corpora]
            assert sum(quotas) == seen.get(context, 0)
            assert all(abs(quota - int(has)) < 1 for quota, has in zip(quotas, plan.taken[step], strict=True))
            seen[context] = seen.get(context, 0) + int(plan.batch[step])
            assert sequences_at(recipe, name, context, plan.tokens_after(step + 1)) == seen[context]


STAGES: list[dict[str, Any]] = [
    {"name": "base", "until": 60_000, "batch": "16 sequences"},
    {"name": "domain", "until": 90_000, "batch": "16 sequences", "fork": True, "ramp": 10_000},
    {"name": "long", "until": 120_000, "batch": 4096, "context": 256, "rope_theta": 40_000},
]
_OWN = {"name": "own", "until": 50_000, "batch": 2048, "context": 128}
LONG = _family(STAGES, {"far": {"from": "base@30K", "decay": {"shape": "linear", "minimum": "1e-5"}, "stages": [_OWN]}})


def test_a_stage_has_its_own_context_batch_and_positions() -> None:
    plan = compile_plan(LONG, "math_code")
    assert [(name, int(plan.batch[i]), int(plan.contexts[i])) for name, i, _ in plan.stage_steps()] == [
        ("base", 16, 64), ("domain", 16, 64), ("long", 16, 256)
    ]  # fmt: skip
    assert LONG.final_shape("math_code").rope_theta == 40_000
    assert [LONG.shape_at("math_code", tokens).context for tokens in (1_024, 90_112, 90_113)] == [64, 64, 256]
    assert [LONG.final_shape(model).context for model in ("base", "chinese", "far")] == [64, 256, 128]
    yarn = STAGES[2] | {"rope_scaling": {"kind": "yarn", "factor": 4}}
    found = _family([*STAGES[:2], yarn]).final_shape("v1.1").rope_scaling
    assert found is not None
    assert found.original_context == 64


def test_targets_that_another_context_met_are_counted() -> None:
    corpora = {item.name: item for item in summarize(compile_plan(LONG, "v1.1"), LONG, TOKENS).corpora}
    short, long = corpora["prose"], corpora["prose@256"]
    assert short.tokens > TOKENS["prose"]
    assert long.met_again == long.tokens == long.sequences * 256
    about = "prose@256: about 32.77K of its 32.77K targets were met before, in sequences of another context"
    assert about in repetitions(summarize(compile_plan(LONG, "v1.1"), LONG, TOKENS))
    assert not repetitions(summarize(compile_plan(LONG, "base"), LONG, TOKENS))
    far = {item.name: item for item in summarize(compile_plan(LONG, "far"), LONG, {"prose": 200_000}).corpora}
    share = far["prose"].tokens / 200_000
    assert far["prose@128"].met_again == round(far["prose@128"].tokens * share)


def test_contexts_change_no_step_before_them_and_no_fingerprint() -> None:
    plain = _family([*STAGES[:2], {"name": "cooldown", "until": 120_000, "batch": 4096}])
    one, other = compile_plan(plain, "math_code"), compile_plan(LONG, "math_code")
    end = other.stage_steps()[1][2]
    assert (one.counts[:end] == other.counts[:end]).all()
    samplers = [Sampler(plan, 1, _rows(LONG)) for plan in (one, other)]
    assert all((samplers[0].step(step).row == samplers[1].step(step).row).all() for step in (0, 60, end - 1))
    hashes = dict.fromkeys(LONG.corpora, "hash")
    inputs = [fingerprint_inputs(recipe, plan, end, hashes, "t") for recipe, plan in ((plain, one), (LONG, other))]
    assert inputs[0] == inputs[1]
    last = fingerprint_inputs(LONG, other, end + 1, hashes, "t").root
    assert (last["stages.2.context"], last["stages.2.rope_theta"]) == (256, 40_000)
    same = _family([*(stage | {"context": 64} for stage in STAGES[:2]), STAGES[2]])
    assert fingerprint_inputs(same, compile_plan(same, "math_code"), end, hashes, "t") == inputs[0]


class LosesTargets(Sampler):
    """Long rows leave out the targets at a corpus's end that fill no row."""

    def __init__(self, plan: Plan, seed: int, rows: Mapping[str, int]) -> None:
        super().__init__(plan, seed, {name: count - ("@" in name) or count for name, count in rows.items()})


class ShortRows(Sampler):
    """Long rows are counted as if they were short."""

    def __init__(self, plan: Plan, seed: int, rows: Mapping[str, int]) -> None:
        super().__init__(plan, seed, {name: rows[name.partition("@")[0]] for name in rows})


def _with(**changes: object) -> Parts:
    """A planner whose recipe has other keys in the stage `long`."""
    stage = LONG.stages[2].model_copy(update=changes)
    other = LONG.model_copy(update={"stages": [*LONG.stages[:2], stage]})
    return Parts(compile=lambda _, model: compile_plan(other, model))


def _share_table_of_the_stage_before(recipe: Recipe, model: str | None) -> Plan:
    """The long rows are shared out as the short ones were."""
    plan = compile_plan(recipe, model)
    if model != "math_code":
        return plan
    (_, _, fork), _, (_, first, end) = plan.stage_steps()
    counts, taken = plan.counts.copy(), plan.taken.copy()
    counts[first:end] = counts[fork - end + first : fork]
    taken[first:end] = np.cumsum(counts[first:end], axis=0) - counts[first:end]
    return dataclasses.replace(plan, counts=counts, taken=taken)


def _other_decay(recipe: Recipe, model: str | None) -> Plan:
    far = recipe.branches["far"]
    assert far.decay is not None
    cosine = far.model_copy(update={"decay": far.decay.model_copy(update={"shape": "cosine"})})
    return compile_plan(recipe.model_copy(update={"branches": {"far": cosine}}), model)


def _other_fork(recipe: Recipe, model: str | None) -> Plan:
    moved = recipe.branches["far"].model_copy(update={"from_": "base@31K"})
    return compile_plan(recipe.model_copy(update={"branches": {"far": moved}}), model)


@pytest.mark.parametrize(
    ("parts", "check", "found"),
    [
        (Parts(sampler=LosesTargets), "rows of prose@256", "row 124 is lost in epoch 1"),
        (Parts(sampler=ShortRows), "rows of prose@256", "does not exist"),
        (_with(context=128), "batches", "32 sequences, long says 16"),
        (_with(context=128, batch=Batch(2048, "tokens")), "batches", "sequences of 128, long says 256"),
        (_with(context=None), "batches", "64 sequences, long says 16"),
        (Parts(compile=_share_table_of_the_stage_before), "quota", "prose@256 is"),
        (Parts(compile=_other_decay), "learning rate", "the schedule says"),
        (Parts(compile=_other_fork), "shared path", "forks after step 31, and the recipe says after step 30"),
    ],
    ids=["lost targets", "rows of another length", "context", "context alone", "no context", "shares", "decay", "fork"],
)
def test_the_rehearsal_finds_each_planted_error(parts: Parts, check: str, found: str) -> None:
    assert not _failures(LONG)
    failures = _failures(LONG, parts)
    assert check in failures
    assert found in failures[check]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("stages.2.batch=4100", "stages.2.batch: the batch of stage long, 4100 tokens, is 16.02 sequences of 256"),
        ("stages.2.rope_scaling={kind: dynamic, factor: 4}", "stages.2.rope_scaling.kind: dynamic scaling acts beyond"),
        ("model.rope_scaling={kind: dynamic, factor: 4}", "stages.2.context: a model with dynamic scaling has one"),
    ],
)
def test_a_context_that_cannot_be_is_refused_by_its_key(override: str, told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("nano", [f"stages={json.dumps(STAGES)}", override])
    assert told in str(caught.value)


def test_a_ramp_that_reaches_into_another_context_is_refused() -> None:
    stages = [STAGES[0], STAGES[1] | {"ramp": 29_990}, STAGES[2]]
    with pytest.raises(PlanError, match=r"stages\.2\.context: the ramp before reaches into stage long"):
        compile_plan(_family(stages), "math_code")


def test_a_plan_tells_the_positions_and_the_factor_of_a_stage() -> None:
    own = {"name": "own", "until": "40K", "batch": "8 sequences", "context": 256, "rope_theta": 40_000}
    recipe = _family(STAGES, {"far": {"from": "base@30K", "stages": [own | {"learning_rate_factor": 0.5}]}})
    text = plan_markdown(summarize(compile_plan(recipe, "far"), recipe))
    assert "Stage own: RoPE base 40,000, learning rate times 0.5." in text
    assert text.count("RoPE base") == 1, "stages that leave it to the model have no note"
