"""A profile writes a trace and a table of the steps that were asked for, and changes nothing else."""

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import MakeFamily
from tests.train.runs import assert_same_run
from tests.train.stopping import StopAt
from tinyllama.errors import Interrupted, UserError
from tinyllama.train.trace_table import PARTS, PREFIX, Event, trace_table
from tinyllama.train.trainer import train


def _names(trace: Path) -> list[str]:
    with gzip.open(trace, "rt") as file:
        return [event.get("name", "") for event in json.load(file)["traceEvents"] if event.get("ph") == "X"]


def _rows(page: str) -> dict[str, list[str]]:
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    return {cells[0]: cells[1:] for cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)}


def test_a_profile_shows_the_parts_of_its_steps_and_changes_no_weight(make_family: MakeFamily, trained: Path) -> None:
    profiled = make_family("profiled")
    profiled.train("base", profile=range(3, 5))
    assert_same_run(trained / "base", profiled.folder / "base")
    folder = profiled.folder / "base/profiles"
    assert sorted(path.name for path in folder.iterdir()) == ["steps-3-4.md", "steps-3-4.trace.json.gz"]
    assert not (trained / "base/profiles").exists()
    names = _names(folder / "steps-3-4.trace.json.gz")
    counts = {name: names.count(f"{PREFIX}{name}") for name in ("step", "data wait", "checkpoint", "held-out losses")}
    assert counts == {"step": 2, "data wait": 2, "checkpoint": 1, "held-out losses": 0}
    page = (folder / "steps-3-4.md").read_text()
    rows = _rows(page)
    times = {name: float(rows[name][0]) for name in ("forward", "backward", "optimizer", "all")}
    assert all(time > 0 for time in times.values())
    shares = [float(rows[name][1]) for name in (*PARTS, "other")]
    assert sum(shares) == pytest.approx(100, abs=0.5)
    assert "`aten::" in page
    assert page.startswith("# Steps 3 to 4 on cpu (")


def test_a_model_profiles_the_steps_that_it_does_itself(make_family: MakeFamily) -> None:
    family = make_family()
    family.train("v1.1", profile=range(6, 8))
    assert (family.folder / "base/profiles/steps-6-6.md").is_file()
    assert (family.folder / "v1.1/profiles/steps-7-7.md").is_file()
    with pytest.raises(UserError, match=r"--profile 90\.\.95: no model .* base steps 1 to 6, v1\.1 steps 7 to 14"):
        family.train("v1.1", profile=range(90, 96))


def test_steps_that_are_done_are_named_and_a_stop_keeps_what_was_profiled(
    make_family: MakeFamily, caplog: pytest.LogCaptureFixture
) -> None:
    family = make_family("family", "checkpoints.every=1K")
    run = replace(family.training_run("base"), profile=range(3, 7))
    run.watch.append(StopAt(4))
    with pytest.raises(Interrupted):
        train(run)
    names = _names(family.folder / "base/profiles/steps-3-6.trace.json.gz")
    assert names.count(f"{PREFIX}step") == 2
    shutil.rmtree(family.folder / "base/profiles")
    family.train("base", profile=range(2, 4))
    assert "base has done steps 2 to 3 already, so they are not profiled" in caplog.text
    assert not (family.folder / "base/profiles").exists()


def test_kernels_count_for_the_part_that_launched_them() -> None:
    """Host: 10 ms a step; the device finishes the forward pass's kernel while the host is in the backward pass."""

    def part(name: str, ts: float, dur: float) -> Event:
        return Event(f"{PREFIX}{name}", ts, dur, "user_annotation", 1)

    events = [
        part("step", 0, 10_000), part("data wait", 0, 1000), part("forward", 1000, 2000), part("backward", 3000, 4000),
        Event("cudaLaunchKernel", 1500, 10, "cuda_runtime", 1, 7),
        Event("cudaLaunchKernel", 3500, 10, "cuda_runtime", 2, 8),
        Event("cudaLaunchKernel", 9000, 10, "cuda_runtime", 1, 9),
        Event("gemm", 3100, 1500, "kernel", 0, 7), Event("gemm", 4600, 2500, "kernel", 0, 8),
        Event("copy", 9500, 250, "gpu_memcpy", 0, 9),
    ]  # fmt: skip
    rows = _rows(trace_table(sorted(events, key=lambda event: event.ts), "Step 1"))
    assert rows["data wait"] == ["1.00", "10.0", "0.00"]
    assert rows["forward"] == ["2.00", "20.0", "1.50"]
    assert rows["backward"] == ["4.00", "40.0", "2.50"]
    assert rows["other"] == ["3.00", "30.0", "0.25"]
    assert rows["all"] == ["10.00", "100.0", "4.25"]
    assert rows["`gemm`"] == ["2.0", "4.00", "94.1"]


def test_an_operators_time_is_its_own() -> None:
    events = [
        Event(f"{PREFIX}step", 0, 100, "user_annotation"),
        Event("outer", 10, 50, "cpu_op"),
        Event("inner", 20, 30, "cpu_op"),
        Event("after", 60, 20, "cpu_op"),
        Event("inner", 62, 10, "cpu_op", tid=5),
    ]
    rows = _rows(trace_table(events, "Step 1"))
    assert [rows[f"`{name}`"][:2] for name in ("inner", "outer", "after")] == [
        ["2.0", "0.04"],
        ["1.0", "0.02"],
        ["1.0", "0.02"],
    ]
