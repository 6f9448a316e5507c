"""Planted spikes: what is skipped, what is remembered, and that nothing else changes."""

import json
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from tests.conftest import MakeFamily
from tests.train.processes import train_on
from tests.train.runs import assert_same_run, deterministic_metrics, weights
from tests.train.stopping import stop_at
from tinyllama.checkpoint.format import steps_saved
from tinyllama.checkpoint.state import SpikeState
from tinyllama.errors import CheckpointError, TrainingError
from tinyllama.family import Family
from tinyllama.recipe import Spikes
from tinyllama.train import optimizer
from tinyllama.train.feeder import StepBatch
from tinyllama.train.forward_backward import Gradients
from tinyllama.train.spikes import MOST_IN_A_ROW, SpikeWatch, add_span

SKIP = ("spikes.policy=skip", "spikes.window=3", "checkpoints.every=3K")
ROLLBACK = ("spikes.policy=rollback-and-skip", *SKIP[1:])
"""Steps of 1,024 tokens: planned checkpoints after 3 and, as the base's end, 6."""


def _poisoned(
    steps: dict[int, float], gradients: Callable[..., tuple[Tensor, Tensor]], self: Gradients, batch: StepBatch
) -> tuple[Tensor, Tensor]:
    loss, z_sum = gradients(self, batch)
    return loss + steps.get(batch.step + 1, 0.0) * batch.predicted, z_sum


def poison(steps: dict[int, float]) -> None:
    """Add to the losses of some steps in this process."""
    original = Gradients.__call__
    Gradients.__call__ = lambda self, batch: _poisoned(steps, original, self, batch)  # type: ignore[method-assign]


@contextmanager
def poison_steps(monkeypatch: pytest.MonkeyPatch, steps: dict[int, float]) -> Iterator[None]:
    original = Gradients.__call__
    with monkeypatch.context() as patch:
        patch.setattr(Gradients, "__call__", lambda self, batch: _poisoned(steps, original, self, batch))
        yield


def _without_updates(monkeypatch: pytest.MonkeyPatch, family: Family, model: str, steps: set[int]) -> None:
    """Train with some updates skipped by hand."""
    original, plan = optimizer.apply, family.training_run(model).plan
    rates = {float(plan.lr[step - 1]) for step in steps}
    with monkeypatch.context() as patch:
        patch.setattr(optimizer, "apply", lambda o, lr: None if lr in rates else original(o, lr))
        family.train(model)


def _same_weights(one: Path, other: Path) -> bool:
    left, right = weights(one), weights(other)
    return all(bool((left[name] == right[name]).all()) for name in right)


def _spikes(family: Family, model: str = "base") -> list[dict[str, Any]]:
    return [record for record in deterministic_metrics(family.folder / model) if record["kind"] == "spike"]


def test_a_loss_far_above_the_last_ones_is_a_spike_and_enters_no_mean() -> None:
    watch = SpikeWatch(Spikes(policy="skip", sigmas=2, window=3), None)
    for loss in (3.0, 4.0):
        assert not watch.is_spike(loss + 50, 1.0), "the window is not full"
        assert watch.is_spike(math.nan, 1.0)
        assert watch.is_spike(loss, math.inf)
        watch.updated(loss)
    watch.updated(5.0)
    assert watch.threshold == 6.0  # mean 4, deviation 1
    assert [watch.is_spike(loss, 1e9) for loss in (6.0, 6.01)] == [False, True]
    watch.skipped()
    assert watch.threshold == 6.0
    again = SpikeWatch(
        Spikes(policy="skip", sigmas=2, window=3), SpikeState.model_validate_json(watch.state(2).model_dump_json())
    )
    assert (again.threshold, again.state(2)) == (6.0, watch.state(2))
    again.begin_stage()
    assert again.threshold is None


def test_spikes_in_a_row_are_counted_until_an_update() -> None:
    watch = SpikeWatch(Spikes(policy="skip"), None)
    for _ in range(2):
        assert [watch.skipped() for _ in range(MOST_IN_A_ROW - 1)] == [True] * (MOST_IN_A_ROW - 1)
        watch.updated(1.0)
    assert [watch.skipped() for _ in range(MOST_IN_A_ROW)][-1] is False


def test_spans_that_touch_are_one() -> None:
    assert add_span((), (3, 3)) == ((3, 3),)
    assert add_span(((1, 3),), (4, 6)) == ((1, 6),)
    assert add_span(((1, 3),), (5, 6)) == ((1, 3), (5, 6))


def test_a_watched_run_without_spikes_equals_an_unwatched_one(make_family: MakeFamily, trained: Path) -> None:
    watched = make_family("watched", "spikes.policy=rollback-and-skip")
    for model in ("base", "math_code"):
        watched.train(model)
        assert_same_run(trained / model, watched.folder / model)
    folders = (trained, watched.folder)
    states = [json.loads(next(folder.glob("base/checkpoints/*/state.json")).read_text()) for folder in folders]
    assert states[1].keys() - states[0].keys() == {"spikes"}
    assert states[0]["fingerprint"] == states[1]["fingerprint"]


def test_skip_skips_the_update_of_a_spike_and_keeps_its_place(
    make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, expected = make_family("family", *SKIP), make_family("expected", "checkpoints.every=3K")
    with poison_steps(monkeypatch, {2: math.nan, 5: 100.0}):
        family.train("base")
    _without_updates(monkeypatch, expected, "base", {2, 5})
    assert _same_weights(family.folder / "base", expected.folder / "base")
    first, second = _spikes(family)
    assert (first["step"], first["loss"], first["skipped"]) == (2, None, (2, 2))
    assert (second["step"], second["skipped"], second["tokens"]) == (5, (5, 5), 5 * 1024)
    assert second["loss"] > 100 > second["threshold"]
    assert len(second["rows"]) == 16
    assert second["rows"][0].startswith("prose:")
    steps = {r["step"]: r for r in deterministic_metrics(family.folder / "base") if r["kind"] == "step"}
    whole = {r["step"]: r for r in deterministic_metrics(expected.folder / "base") if r["kind"] == "step"}
    assert steps.keys() == {1, 3, 4, 6}
    assert [steps[n] for n in (1, 3, 4, 6)] == [whole[n] for n in (1, 3, 4, 6)], "rates, tokens and rows of the plan"


def test_rollback_skips_all_since_the_last_planned_checkpoint(
    make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, expected = make_family("family", *ROLLBACK), make_family("expected", "checkpoints.every=3K")
    with poison_steps(monkeypatch, {5: 100.0, 12: math.nan}):
        family.train("base")
        family.train("math_code")
    _without_updates(monkeypatch, expected, "base", {4, 5})
    assert _same_weights(family.folder / "base", expected.folder / "base")
    assert [spike["skipped"] for spike in _spikes(family)] == [(4, 5)]
    # 12 ends a stage of the variant: its checkpoint is written, with what was learnt until the one before.
    assert [spike["skipped"] for spike in _spikes(family, "math_code")] == [(10, 12)]
    shutil.copytree(family.folder / "base", expected.folder / "base", dirs_exist_ok=True)  # it knows what was skipped
    _without_updates(monkeypatch, expected, "math_code", {10, 11, 12})
    assert _same_weights(family.folder / "math_code", expected.folder / "math_code")
    state = json.loads((family.folder / "math_code/checkpoints/step-14/state.json").read_text())
    assert state["skipped"] == [[4, 5], [10, 12]]


def test_a_variant_rolls_back_to_the_fork(make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch) -> None:
    family, expected = make_family("family", *ROLLBACK), make_family("expected", "checkpoints.every=3K")
    for each in (family, expected):
        each.train("base")
    with poison_steps(monkeypatch, {8: math.inf}):
        family.train("math_code")
    assert [spike["skipped"] for spike in _spikes(family, "math_code")] == [(7, 8)]
    _without_updates(monkeypatch, expected, "math_code", {7, 8})
    assert _same_weights(family.folder / "math_code", expected.folder / "math_code")


@pytest.mark.parametrize("policy", [SKIP, ROLLBACK], ids=["skip", "rollback"])
@pytest.mark.parametrize("stops", [(1, 4), (5,), (2, 3, 5)], ids=str)
def test_a_run_that_stops_around_a_spike_ends_in_the_same_bits(
    make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch, policy: tuple[str, ...], stops: tuple[int, ...]
) -> None:
    whole, pieces = make_family("whole", *policy), make_family("pieces", *policy, "checkpoints.keep=1")
    with poison_steps(monkeypatch, {5: 100.0}):
        whole.train("base")
        for step in stops:
            stop_at(pieces, "base", step)
        pieces.train("base")
    assert_same_run(whole.folder / "base", pieces.folder / "base")
    states = [next(f.folder.glob("base/checkpoints/step-6/state.json")).read_text() for f in (whole, pieces)]
    assert states[0] == states[1]


def test_a_checkpoint_that_is_still_needed_survives_those_of_signals(
    make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = make_family("family", *ROLLBACK, "checkpoints.keep=1")
    with poison_steps(monkeypatch, {}):
        stop_at(family, "base", 4)
        assert steps_saved(family.folder / "base/checkpoints") == [3, 4]
        stop_at(family, "base", 5)
    assert steps_saved(family.folder / "base/checkpoints") == [3, 5]


def test_spikes_without_end_stop_the_run_with_a_remedy(
    make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = make_family("family", "stages.0.until=11K", "stages.1.until=14K", *SKIP)
    with poison_steps(monkeypatch, dict.fromkeys(range(2, 20), math.nan)):
        with pytest.raises(TrainingError, match=r"base, step 11: loss nan.*spike 10 in a row.*raise spikes.sigmas"):
            family.train("base")
        assert steps_saved(family.folder / "base/checkpoints") == [6, 9]


def test_the_policy_may_change_under_what_was_trained(make_family: MakeFamily) -> None:
    stop_at(make_family(), "base", 2)
    stop_at(make_family("family", *ROLLBACK), "base", 4)
    make_family("family", "spikes.policy=none").train("base")


def test_a_damaged_checkpoint_is_not_rolled_back_to(make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch) -> None:
    family = make_family("family", *ROLLBACK)
    stop_at(family, "base", 4)
    (family.folder / "base/checkpoints/step-3/.metadata").write_bytes(b"")
    with (
        poison_steps(monkeypatch, {5: 100.0}),
        pytest.raises(CheckpointError, match=r"step-3/.metadata: differs from its manifest"),
    ):
        family.train("base")


@pytest.mark.parametrize("policy", [SKIP, ROLLBACK], ids=["skip", "rollback"])
def test_two_ranks_agree_on_a_spike_that_one_of_them_sees(
    prepared: Path, tmp_path: Path, policy: tuple[str, ...]
) -> None:
    ends = []
    for ranks in (1, 2):
        folder = Path(shutil.copytree(prepared, tmp_path / f"on-{ranks}"))
        planted = {ranks - 1: partial(poison, {5: 100.0})}
        assert train_on(folder, ranks, ranks, policy, in_rank=planted) == [0] * ranks
        ends.append(deterministic_metrics(folder / "base"))
    spikes = [[(r["step"], r["skipped"], r["rows"]) for r in end if r["kind"] == "spike"] for end in ends]
    assert spikes[0] == spikes[1]
    assert len(spikes[0]) == 1
    assert ends[1][-1]["losses"] == pytest.approx(ends[0][-1]["losses"], rel=5e-3)
