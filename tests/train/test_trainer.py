import json
import math
import os
import signal
from pathlib import Path

import pytest
import torch

from tests.conftest import MakeFamily
from tests.ladder.library import Lines
from tests.train.runs import assert_same_run, deterministic_metrics, step_records, weights
from tests.train.stopping import StopAt, stop_at
from tinyllama.checkpoint.format import steps_saved
from tinyllama.errors import CheckpointError, Interrupted, NewerFormatError, TrainingError
from tinyllama.family import Family
from tinyllama.family.train import train_model
from tinyllama.files import sha256_file
from tinyllama.model import Llama
from tinyllama.recipe import load_recipe
from tinyllama.sampler import Sampler
from tinyllama.train import trainer
from tinyllama.train.feeder import feed, read_step
from tinyllama.train.forward_backward import Gradients
from tinyllama.train.machine import exclusive
from tinyllama.train.metrics import read_metrics
from tinyllama.train.precision import MasterWeights
from tinyllama.train.trainer import train


def test_a_stopped_and_resumed_run_equals_one_that_never_stopped(make_family: MakeFamily, trained: Path) -> None:
    pieces = make_family("pieces")
    for step in (1, 3, 5):
        stop_at(pieces, "base", step)
    pieces.train("base")
    for step in (7, 12):
        stop_at(pieces, "math_code", step)
    pieces.train("math_code")
    for model in ("base", "math_code"):
        assert_same_run(trained / model, pieces.folder / model)


def test_training_makes_its_device_the_current_one(make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.device] = []
    monkeypatch.setattr(trainer, "set_current_device", seen.append)
    make_family("family").train("base")
    assert seen == [torch.device("cpu")]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_a_checkpoint_and_gives_the_shells_exit_code(
    make_family: MakeFamily, number: int, code: int
) -> None:
    family = make_family()
    stopped = stop_at(family, "base", 3, number)
    assert stopped.exit_code == code
    assert "the same command resumes from there" in str(stopped)
    assert steps_saved(family.folder / "base/checkpoints")[-1] == 3


def test_a_signal_after_the_last_step_is_not_lost(make_family: MakeFamily) -> None:
    class StopAtClose(StopAt):
        def close(self) -> None:
            os.kill(os.getpid(), self.number)

    family = make_family()
    run = family.training_run("base")
    run.watch.append(StopAtClose(0))
    with pytest.raises(Interrupted, match="base is complete"):
        train(run)
    assert steps_saved(family.folder / "base/checkpoints") == [run.plan.steps]


def test_a_variant_continues_from_the_base_with_weights_moments_and_tokens(
    make_family: MakeFamily, trained: Path
) -> None:
    # The v1.1 variant has the base's shares: it must equal one run that never forked.
    straight = make_family("straight", "stages.0.until=12K", "stages.1.until=13K", "stages.1.ramp=0")
    straight.train("base")
    forked = deterministic_metrics(trained / "v1.1")
    assert [record["tokens"] for record in forked if record["kind"] == "step"][:6] == [1024 * n for n in range(7, 13)]
    there = {r["step"]: r["loss"] for r in deterministic_metrics(straight.folder / "base") if r["kind"] == "step"}
    assert all(there[r["step"]] == r["loss"] for r in forked if r["kind"] == "step" and r["step"] <= 12)


def test_a_resumed_model_is_said_to_resume(make_family: MakeFamily) -> None:
    stopped, lines = make_family(), Lines()
    stop_at(stopped, "base", 2)
    Family(stopped.recipe, stopped.folder, progress=lines).train("base")
    assert [line for line in lines.said if line.startswith(("training", "resuming"))] == ["resuming base"]


def test_adding_a_variant_trains_only_that_variant(make_trained: MakeFamily) -> None:
    family = make_trained()
    before = {path: path.stat().st_mtime_ns for path in family.folder.rglob("*") if not path.name.endswith(".lock")}
    more = make_trained("family", "variants.extra={prose: 50%, code: 50%}")
    for model in ("base", "v1.1", "extra"):
        more.train(model)
    changed = {p for p, t in before.items() if p.is_file() and p.stat().st_mtime_ns != t}
    assert {path.name for path in changed} <= {"recipe.yaml", "seconds.json"}
    assert steps_saved(more.folder / "extra/checkpoints")[-1] == more.training_run("extra").plan.steps


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("seed=2", "seed"),
        ("optimizer.learning_rate.peak=5e-3", "optimizer.learning_rate.peak"),
        ("stages.0.batch=32 sequences", "stages.0.batch"),
        ("precision=fp32", "precision"),
        ("document_masking=true", "document_masking"),
        ("corpora.prose.held_out.share=6%", "corpora.prose"),
    ],
)
def test_a_change_that_decides_the_result_is_refused_with_its_key(
    make_family: MakeFamily, override: str, key: str
) -> None:
    stop_at(make_family(), "base", 2)
    changed = make_family("family", override)
    recipe = (changed.folder / "recipe.yaml").read_bytes()
    with pytest.raises(CheckpointError, match=rf"was made with {key} = "):
        changed.train("base")
    assert (changed.folder / "recipe.yaml").read_bytes() == recipe, "what the checkpoints were made with"


def test_a_change_that_decides_nothing_resumes(make_trained: MakeFamily) -> None:
    changed = make_trained(
        "family",
        "evaluation.every=1K",
        "hardware.micro_batch=4",
        "stages.2.until=30K",
        "checkpoints.keep=5",
        "variants.v1.1={prose: 90%, code: 10%}",
        "variants.other={code: 100%}",
    )
    changed.train("base")
    changed.train("other")


def test_a_variants_shares_are_refused_once_it_has_begun(make_trained: MakeFamily) -> None:
    stop_at(make_trained(), "chinese", 8)
    with pytest.raises(CheckpointError, match=r"variants\.chinese"):
        make_trained("family", "variants.chinese={prose: 60%, chinese: 40%}").train("chinese")


def test_a_variant_without_a_finished_base_is_refused(make_family: MakeFamily) -> None:
    family = make_family()
    with pytest.raises(CheckpointError, match="base is not trained up to the fork"):
        train_model(family.work, family.prepare(), "v1.1")


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_restored(
    make_family: MakeFamily, trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    family = make_family("damaged")
    stop_at(family, "base", 5)
    folder = family.folder / "base/checkpoints"
    shard = next((folder / "step-5").glob("*.distcp"))
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    assert steps_saved(folder)[-2:] == [4, 5]
    family.train("base")
    assert f"{shard}: differs from its manifest" in caplog.text
    assert_same_run(trained / "base", family.folder / "base")


@pytest.mark.parametrize("file", ["step-5/manifest.json", "step-5/state.json"])
def test_a_checkpoint_of_a_later_version_is_refused_and_stays(make_family: MakeFamily, file: str) -> None:
    family = make_family()
    stop_at(family, "base", 5)
    path = family.folder / "base/checkpoints" / file
    text = path.read_text().replace('"format": ', '"format": 9')
    path.write_text(text)
    if path.name == "state.json":
        manifest = path.with_name("manifest.json")
        entries = json.loads(manifest.read_text())
        entries["files"]["state.json"] = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        manifest.write_text(json.dumps(entries))
    with pytest.raises(NewerFormatError, match=f"{path}: format: 9.*upgrade"):
        family.train("base")
    assert path.read_text() == text


def test_a_gradient_that_is_not_finite_stops_before_the_update_with_step_and_rows(make_family: MakeFamily) -> None:
    family = make_family("family", "optimizer.learning_rate.peak=1e30", "checkpoints.every=1K")
    with pytest.raises(TrainingError, match=r"base, step \d+: loss .*not finite.*rows: prose:\d+") as caught:
        family.train("base")
    assert caught.value.exit_code == 2
    assert all(torch.isfinite(weight).all() for weight in weights(family.folder / "base").values())


def test_two_runs_in_one_folder_are_refused(make_family: MakeFamily) -> None:
    family = make_family()
    run = family.training_run("base")
    with exclusive(run.folder), pytest.raises(TrainingError, match="another process is training here"):
        train(run)


def test_only_the_last_checkpoints_and_stage_ends_are_kept(make_family: MakeFamily) -> None:
    family = make_family("family", "checkpoints.every=1K", "checkpoints.keep=2")
    stop_at(family, "base", 5)
    assert steps_saved(family.folder / "base/checkpoints") == [4, 5]
    family.train("base")
    assert steps_saved(family.folder / "base/checkpoints") == [6]


def test_permanent_checkpoints_stay(make_family: MakeFamily) -> None:
    family = make_family("family", "checkpoints.every=1K", "checkpoints.keep=1", "checkpoints.permanent=2K")
    family.train("base")
    # Steps of 1,024 tokens: 2 reaches 2K (2,000), 4 reaches 4K, 6 reaches 6K and ends the stage.
    assert steps_saved(family.folder / "base/checkpoints") == [2, 4, 6]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("micro_batch", [3, 16])
def test_accumulated_gradients_equal_those_of_the_whole_batch(
    make_family: MakeFamily, precision: str, micro_batch: int
) -> None:
    family = make_family()
    run = family.training_run("base")
    rows = {name: run.corpora[name].rows("train", run.plan.context) for name in run.plan.corpora}
    sampler = Sampler(run.plan, 1, {name: len(part) for name, part in rows.items()})
    batch = read_step(run.plan, sampler, rows, 2)

    def gradients(precision: str, micro_batch: int) -> tuple[float, dict[str, torch.Tensor]]:
        model = Llama(family.recipe.model)
        model.initialize(1)
        masters = MasterWeights(model, precision).masters
        loss, _ = Gradients(model, micro_batch=micro_batch, documents=None, compiled=False)(batch)
        assert all(weight.grad is not None and weight.grad.dtype == torch.float32 for weight in masters.values())
        return float(loss), {name: weight.grad for name, weight in masters.items() if weight.grad is not None}

    loss, expected = gradients("fp32", 16)
    got_loss, got = gradients(precision, micro_batch)
    assert got_loss == pytest.approx(loss, rel=1e-5 if precision == "fp32" else 1e-2)
    for name, gradient in expected.items():
        error = (got[name] - gradient).norm() / gradient.norm()
        assert error < (1e-5 if precision == "fp32" else 3e-2), name


def test_metrics_say_what_was_planned(make_family: MakeFamily, trained: Path) -> None:
    plan = make_family().training_run("math_code").plan
    steps = step_records(trained / "math_code")
    assert [record.step for record in steps] == list(range(plan.fork_step + 1, plan.steps + 1))
    for record in steps:
        step = record.step - 1
        assert record.lr == plan.lr[step]
        assert record.counts == dict(zip(plan.corpora, plan.counts[step].tolist(), strict=True))
        assert math.isfinite(record.loss)


def test_held_out_losses_come_at_every_multiple_and_at_stage_ends(trained: Path) -> None:
    records = read_metrics(trained / "v1.1/metrics.jsonl")
    held_out = [record for record in records if record.kind == "held_out"]
    assert [record.step for record in held_out] == [
        12,
        14,
    ]  # 12,288 passes 12K and ends a stage; 20,480 passes 18K and ends
    assert set(held_out[0].losses) == set(load_recipe("nano").corpora)


def test_training_learns(trained: Path) -> None:
    losses = [record.loss for record in step_records(trained / "base")]
    assert losses[-1] < losses[0] - 0.5


def test_a_resume_repeats_the_recorded_threads_and_micro_batch(make_family: MakeFamily) -> None:
    family = make_family("family", "hardware.micro_batch=5", "hardware.threads=1")
    stop_at(family, "base", 2)
    resumed = make_family("family", "hardware.micro_batch=auto", "hardware.threads=auto")
    stop_at(resumed, "base", 4)
    state = json.loads((family.folder / "base/checkpoints/step-4/state.json").read_text())
    assert (state["threads"], state["micro_batch"]) == (1, 5)


def test_document_masking_and_compilation_train_too(make_family: MakeFamily, trained: Path) -> None:
    masked = make_family("masked", "document_masking=true")
    masked.train("base")
    left, right = (weights(folder / "base")["lm_head.weight"] for folder in (masked.folder, trained))
    assert not torch.equal(left, right)


def test_the_feeder_gives_the_rows_of_the_sampler_in_order(make_family: MakeFamily) -> None:
    run = make_family().training_run("math_code")
    rows = {name: run.corpora[name].rows("train", run.plan.context) for name in run.plan.corpora}
    sampler = Sampler(run.plan, 1, {name: len(part) for name, part in rows.items()})
    steps = list(feed(run.plan, sampler, rows, 10, run.plan.steps))
    assert [batch.step for batch in steps] == list(range(10, run.plan.steps))
    for batch in steps:
        expected = sampler.step(batch.step)
        assert (batch.rows.row == expected.row).all()
        first = rows[run.plan.corpora[expected.corpus[0]]].row(int(expected.row[0]))
        assert (batch.inputs[0].numpy() == first[0]).all()
