"""fp16 with dynamic loss scaling, the precision that a device decides, and bf16 where a processor lacks it."""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.conftest import SMALL, MakeFamily
from tests.train.processes import train_on
from tests.train.runs import assert_same_run, deterministic_metrics, step_records, weights
from tests.train.stopping import stop_at
from tinyllama.checkpoint.state import LossScale
from tinyllama.errors import CheckpointError
from tinyllama.family import Family, train
from tinyllama.fidelity import audit, open_runs
from tinyllama.model import devices
from tinyllama.recipe import load_recipe
from tinyllama.train import precision
from tinyllama.train.feeder import StepBatch
from tinyllama.train.forward_backward import Gradients
from tinyllama.train.precision import LossScaler

SHORT = ("model.layers=1", "stages.0.until=3K", "stages.0.batch=8 sequences")
"""A base of six small steps."""
FP16 = ("precision=fp16", *SHORT)
LARGE = 2.0**22
"""A scale at which the first gradients of nano overflow, by themselves."""
WITHOUT_AVX512 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}


def _after_two(scaler: LossScaler, _loss: float, _norm: float) -> bool:
    """An overflow that is planted after every two updates."""
    return scaler.state.updates == 2


def _find_it_alone() -> None:
    """As the one rank of two that finds the overflow."""
    rank = os.environ["RANK"]
    LossScaler.overflows = lambda self, loss, norm: rank == "1" and _after_two(self, loss, norm)  # type: ignore[method-assign]


def _loss_scale(run: Path) -> dict[str, float]:
    newest = max(run.glob("checkpoints/step-*"), key=lambda path: int(path.name.split("-")[1]))
    scale: dict[str, float] = json.loads((newest / "state.json").read_text())["loss_scale"]
    return scale


def _skipped(run: Path) -> dict[int, float]:
    """Step → its loss scale."""
    return {r["step"]: r["scale"] for r in deterministic_metrics(run) if r["kind"] == "overflow"}


def test_the_scale_is_that_of_torchs_own_scaler() -> None:
    ours, theirs = LossScaler(), torch.amp.GradScaler("cpu")
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight])
    for step in range(2020):
        assert ours.state.scale == theirs.get_scale()
        overflows = step in {0, 1, 7, 2012}
        theirs.scale(weight.sum() * (torch.inf if overflows else 1.0)).backward()
        theirs.step(optimizer)
        theirs.update()
        optimizer.zero_grad()
        (ours.skipped if overflows else ours.updated)()
    assert ours.state.model_dump() == {"scale": theirs.get_scale(), "updates": theirs.state_dict()["_growth_tracker"]}


def test_a_scale_that_cannot_help_is_not_halved() -> None:
    scaler = LossScaler()
    scaler.state = LossScale(scale=1.0, updates=0)
    assert not scaler.overflows(1.0, torch.inf)
    scaler.state = LossScale(scale=2.0, updates=0)
    assert scaler.overflows(1.0, torch.inf)
    assert scaler.overflows(torch.nan, 1.0)


def test_a_step_that_overflows_is_skipped_with_a_record_and_halves_the_scale(
    make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, original = make_family("family", *FP16, "checkpoints.every=500", "checkpoints.keep=9"), Gradients.__call__

    def planted(self: Gradients, batch: StepBatch) -> tuple[torch.Tensor, torch.Tensor]:
        total, z_total = original(self, batch)
        return total / 0 if batch.step == 2 else total, z_total

    monkeypatch.setattr(Gradients, "__call__", planted)
    stop_at(family, "base", 4)
    records = deterministic_metrics(family.folder / "base")
    (skipped,) = [record for record in records if record["kind"] == "overflow"]
    assert skipped.pop("digest")
    assert not [one for one in audit(open_runs(family.folder / "base")[0]) if one.result == "FAIL"]
    assert skipped == {
        "kind": "overflow", "step": 3, "stage": "base", "tokens": 1536, "scale": 65536.0, "counts": {"prose": 8},
    }  # fmt: skip
    assert [record["step"] for record in records] == [1, 2, 3, 4]
    folders = [family.folder / f"base/checkpoints/step-{step}" for step in (2, 3, 4)]
    before, after, following = (json.loads((folder / "state.json").read_text()) for folder in folders)
    assert (before["loss_scale"], after["loss_scale"]) == (
        {"scale": 65536.0, "updates": 2},
        {"scale": 32768.0, "updates": 0},
    )
    assert (after["skipped"], after["moment_steps"], following["loss_scale"]["updates"]) == ([[3, 3]], -1, 1)
    left, right, changed = map(weights, folders)
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert not torch.equal(right["lm_head.weight"], changed["lm_head.weight"])


def test_a_resumed_run_has_the_scale_that_it_stopped_with_bit_for_bit(
    make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "FIRST_SCALE", LARGE)
    monkeypatch.setattr(precision, "GROWTH_INTERVAL", 2)
    whole, stopped = make_family("whole", *FP16), make_family("stopped", *FP16)
    whole.train("base")
    assert _skipped(whole.folder / "base").keys() >= {1, 2}
    stop_at(stopped, "base", 4)
    stopped.train("base")
    assert_same_run(whole.folder / "base", stopped.folder / "base")
    assert _loss_scale(whole.folder / "base") == _loss_scale(stopped.folder / "base")


def test_two_ranks_skip_the_same_steps_as_one_even_if_one_rank_alone_finds_them(
    make_family: MakeFamily, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = make_family("one", *FP16), shutil.copytree(prepared, tmp_path / "two")
    monkeypatch.setattr(LossScaler, "overflows", _after_two)
    one.train("base")
    assert train_on(two, 2, 2, FP16, in_rank=dict.fromkeys(range(2), _find_it_alone)) == [0, 0]
    assert _skipped(one.folder / "base") == _skipped(two / "base") == {3: 2.0**16, 6: 2.0**15}
    assert _loss_scale(one.folder / "base") == _loss_scale(two / "base")
    runs = (one.folder, two)
    losses = [[r["loss"] for r in deterministic_metrics(run / "base") if r["kind"] == "step"] for run in runs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_fp16_begins_with_the_gradients_of_bf16_and_ends_within_half_a_percent_of_it(make_family: MakeFamily) -> None:
    half, other = make_family("half", *FP16), make_family("other", *SHORT)
    for family in (half, other):
        family.train("base")
    left, right = (deterministic_metrics(family.folder / "base")[-1]["losses"] for family in (half, other))
    assert left == pytest.approx(right, rel=5e-3)
    norms = [step_records(family.folder / "base")[0].grad_norm for family in (half, other)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-2)


@pytest.mark.parametrize(
    ("device", "capability", "in_bf16", "expected"),
    [
        ("cuda", (8, 0), False, "bf16"),
        ("cuda", (7, 5), True, "fp16"),
        ("cpu", None, True, "bf16"),
        ("cpu", None, False, "fp32"),
        ("mps", None, True, "fp32"),
    ],
    ids=["A100", "T4", "AVX-512", "AVX2", "a Mac's GPU"],
)
def test_auto_is_bf16_where_the_device_multiplies_in_it(
    device: str, capability: tuple[int, int] | None, *, in_bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    monkeypatch.setattr(devices, "multiplies_in_bf16", lambda: in_bf16)
    assert devices.best_precision(torch.device(device)) == expected


def test_auto_is_recorded_and_a_device_that_would_choose_another_is_refused(
    make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, named = make_family("family", "precision=auto", *SHORT), make_family("named", "precision=fp32", *SHORT)
    monkeypatch.setattr(train, "best_precision", lambda _device: "fp32")
    stop_at(family, "base", 2)
    assert load_recipe(str(family.layout.recipe)).precision == "fp32"
    monkeypatch.setattr(train, "best_precision", lambda _device: "bf16")
    with pytest.raises(
        CheckpointError, match=r"step-2 was trained in fp32, but precision: auto is bf16 on cpu.*set precision: fp32"
    ):
        family.train("base")
    make_family("family", "precision=fp32", *SHORT).train("base")
    named.train("base")
    assert_same_run(named.folder / "base", family.folder / "base")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="AVX is of x86")
def test_bf16_trains_evaluates_and_generates_where_the_processor_has_no_avx_512(prepared: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(prepared, tmp_path / "family")
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps([*SMALL, "stages.0.until=2K", "stages.0.batch=8 sequences"]))
    command = [sys.executable, "-m", "tests.train.test_precision", str(folder), str(recipe)]
    done = subprocess.run(command, env=os.environ | WITHOUT_AVX512, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = SimpleNamespace(**json.loads(done.stdout.splitlines()[-1]))
    assert (found.best, found.bf16) == ("fp32", "bf16")
    assert 0 < found.bits < 10
    assert len(found.text) > len("Return the")


def _on_this_processor(folder: str, overrides: str) -> None:
    """Train, evaluate and generate in bf16, on one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from tinyllama.formats.open import open_model
    from tinyllama.inference import Sampling, continue_prompts, pack

    keys = json.loads(Path(overrides).read_text())
    Family(load_recipe("nano", keys), folder).train("base")
    # In the precision that it was trained in, not in the one that this processor would choose.
    measured = Family(load_recipe("nano", [*keys, "precision=auto"]), folder).evaluate()["base"].bits_per_byte
    assert measured is not None
    source = open_model(Path(folder) / "base")
    model = source.load(torch.bfloat16)
    pack(model)
    pieces = continue_prompts(model, source.tokenizer(), ["Return the"], Sampling(), max_new_tokens=8, seed=1)
    found = {
        "best": devices.best_precision(torch.device("cpu")),
        "bf16": measured.precision,
        "bits": measured.values["prose"],
        "text": "Return the" + "".join(piece for (piece,) in pieces),
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    _on_this_processor(*sys.argv[1:])
