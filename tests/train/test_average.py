"""The average of the weights: what it is, that it resumes bit for bit, and that it is a model like others."""

import signal
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from tests.conftest import MakeFamily
from tests.train.processes import train_on
from tests.train.runs import assert_same_run, step_records, weights
from tests.train.stopping import stop_at
from tests.train.test_spikes import poison_steps
from tinyllama.checkpoint.format import steps_saved, verify
from tinyllama.checkpoint.weights import CheckpointWeights
from tinyllama.errors import CheckpointError, RecipeError
from tinyllama.plan import Plan, compile_plan
from tinyllama.recipe import load_recipe

EMA = "average.half_life=2K"
EVERY_STEP = ("checkpoints.every=1", "checkpoints.permanent=1")
LAST = ("average.last=3", "checkpoints.every=1K", "checkpoints.keep=1")


def _after(run: Path, step: int) -> dict[str, torch.Tensor]:
    stored = CheckpointWeights(verify(run / f"checkpoints/step-{step}"))
    return {name: stored[name].double() for name in stored}


def _plain_average(family: Path, plan: Plan, half_life: int) -> dict[str, torch.Tensor]:
    """Each step's weights by the integral of 2^-(age / half-life) over its tokens, in fp64, by the formula."""
    ends = [plan.tokens_after(step) for step in range(plan.steps + 1)]
    shares = [2 ** ((e - ends[-1]) / half_life) - 2 ** ((b - ends[-1]) / half_life) for b, e in pairwise(ends)]
    total: dict[str, torch.Tensor] = {}
    for step, share in enumerate(shares, 1):
        run = plan.variant if plan.variant and step > plan.fork_step else "base"
        for name, weight in _after(family / run, step).items():
            total[name] = total.get(name, 0) + share / sum(shares) * weight
    return total


def _assert_average(family: Path, plan: Plan) -> None:
    kept = weights(family / f"{plan.variant or 'base'}@average")
    for name, expected in _plain_average(family, plan, 2000).items():
        torch.testing.assert_close(kept[name].double(), expected, rtol=0, atol=2e-7)
        assert not torch.equal(kept[name], weights(family / (plan.variant or "base"))[name]), "the last weights"


def test_the_running_average_is_that_of_a_loop_over_the_weights_of_each_step(
    make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It continues over the fork; a step skipped as a spike counts with the weights that it leaves."""
    family = make_family("family", EMA, *EVERY_STEP, "precision=fp32", "spikes.policy=skip", "spikes.window=3")
    with poison_steps(monkeypatch, {5: 100.0}):
        family.train("v1.1")
    assert len(family.training_run("v1.1").plan.stage_steps()) > 1
    _assert_average(family.folder, compile_plan(family.recipe))
    _assert_average(family.folder, compile_plan(family.recipe, "v1.1"))


def test_the_running_average_resumes_bit_for_bit_also_after_a_rollback(
    make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = ("spikes.policy=rollback-and-skip", "spikes.window=3", "checkpoints.every=3K")
    whole, pieces = make_family("whole", EMA, *policy), make_family("pieces", EMA, *policy)
    with poison_steps(monkeypatch, {5: 100.0}):
        whole.train("base")
        for step in (1, 4, 5):
            stop_at(pieces, "base", step, signal.SIGTERM)
        pieces.train("base")
    for model in ("base", "base@average"):
        one, other = weights(whole.folder / model), weights(pieces.folder / model)
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_two_ranks_average_their_parts_as_one_process_does(make_family: MakeFamily) -> None:
    options = [EMA, *EVERY_STEP, "precision=fp32", "optimizer.z_loss=0.01", "optimizer.weight_decay_of=matrices"]
    one, two = make_family("one", *options), make_family("two", *options)
    one.train("base")
    assert train_on(two.folder, 2, 2, options) == [0, 0]
    _assert_average(two.folder, compile_plan(two.recipe))
    alone, together = (step_records(family.folder / "base") for family in (one, two))
    assert [record.z_loss for record in together] == pytest.approx([record.z_loss for record in alone], rel=1e-5)
    kept = weights(two.folder / "base@average")
    for name, weight in weights(one.folder / "base@average").items():
        torch.testing.assert_close(kept[name], weight, rtol=0, atol=1e-3)


def test_the_mean_of_the_last_checkpoints_is_written_at_the_end_and_they_are_deleted(make_family: MakeFamily) -> None:
    every = make_family("every", *EVERY_STEP)
    every.train("base")
    family = make_family("family", *LAST)
    stop_at(family, "base", 5)
    assert not (family.folder / "base@average").exists()
    assert steps_saved(family.folder / "base/checkpoints") == [3, 4, 5]
    family.train("base")
    assert_same_run(every.folder / "base", family.folder / "base")
    parts = [_after(every.folder / "base", step) for step in (4, 5, 6)]
    for name, weight in weights(family.folder / "base@average").items():
        torch.testing.assert_close(weight.double(), sum(part[name] for part in parts) / 3, rtol=0, atol=3e-7)
    assert steps_saved(family.folder / "base/checkpoints") == [6]
    assert list(family.finished()) == ["base", "base@average"]


def test_a_finished_model_gets_an_average_later_if_its_checkpoints_are_there(make_trained: MakeFamily) -> None:
    other = make_trained("family", "average.last=2")
    assert list(other.finished()) == ["base", "v1.1", "math_code"]
    with pytest.raises(CheckpointError, match=r"step-4: was deleted, but average\.last needs it"):
        other.train("base")
    other = make_trained("family", "average.last=2", "checkpoints.every=99K")
    other.train("base")
    assert list(other.finished())[:2] == ["base", "base@average"], "of one checkpoint, the only planned one"
    with pytest.raises(CheckpointError, match=r"was made with average\.half_life = nothing"):
        make_trained("family", EMA).train("base")


def test_averages_are_evaluated_exported_and_reported_beside_the_last_weights(make_family: MakeFamily) -> None:
    family = make_family("family", EMA, "evaluation.tasks=[]")
    family.train("base")
    summary = family.report()
    exports = {model: family.folder / folder for model, folder in summary.exports.items()}
    assert list(summary.bits_per_byte) == list(exports) == ["base", "base@average"]
    assert summary.bits_per_byte["base"] != summary.bits_per_byte["base@average"]
    assert "base@average" in family.layout.report.read_text(encoding="utf-8").partition("Held-out bits per byte by")[2]
    kept = weights(family.folder / "base@average")
    assert all(torch.equal(weight, kept[name]) for name, weight in weights(exports["base@average"]).items())
    card = (exports["base@average"] / "README.md").read_text(encoding="utf-8")
    assert "not the last ones: exponential average of the weights after each step, half-life 2K tokens" in card
    assert "not the last ones" not in (exports["base"] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("average", ["{half_life: 1K, last: 3}", "{}"])
def test_an_average_is_of_one_kind(average: str) -> None:
    with pytest.raises(RecipeError, match="average: write exactly one of half_life and last"):
        load_recipe("nano", [f"average={average}"])


@pytest.mark.parametrize("moments", ["fresh", "kept"])
def test_the_average_of_an_imported_model_begins_at_its_first_step(
    make_family: MakeFamily, trained: Path, moments: str
) -> None:
    start = f"start={{model: {trained}/base/checkpoints/step-6, tokens: 1K, moments: {moments}}}"
    family = make_family("family", start, EMA, "stages.0.until=2K", "checkpoints.permanent=1")
    family.train("base")
    plan = family.training_run("base").plan
    assert plan.steps == 1
    kept, last = (weights(family.folder / name) for name in ("base@average", "base"))
    assert all(torch.equal(weight, last[name]) for name, weight in kept.items())
