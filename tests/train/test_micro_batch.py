"""The number of sequences in a pass: from memory on GPUs, by a fixed rule or the clock on CPUs."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.conftest import MakeFamily
from tests.train.processes import train_on
from tests.train.runs import assert_same_run, step_records, weights
from tinyllama.family import Family
from tinyllama.plan.cards import RESERVED
from tinyllama.plan.hardware import even_counts, most_even
from tinyllama.train import micro_batch
from tinyllama.train.forward_backward import Gradients
from tinyllama.train.memory import measure_memory
from tinyllama.train.micro_batch import largest_micro_batch
from tinyllama.train.trainer import _build_gradients

PLAIN = "hardware.compile=false"
AUTO, MEASURED = "hardware.micro_batch=auto", "hardware.micro_batch=measured"


def _chosen(run: Path) -> int:
    newest = max((run / "checkpoints").glob("step-*"), key=lambda path: int(path.name[5:]))
    found: int = json.loads((newest / "state.json").read_text())["micro_batch"]
    return found


def _plant(free: int, most: int, error: type[RuntimeError] = torch.OutOfMemoryError, text: str = "planted") -> None:
    """Let the device have so much free memory, of which passes of more than `most` sequences need too much."""
    original = Gradients.__call__

    def call(self: Gradients, batch: object) -> object:
        if self.micro_batch > most:
            raise error(text)
        return original(self, batch)  # type: ignore[arg-type]

    micro_batch.unused_memory = lambda _device: free  # type: ignore[attr-defined]
    Gradients.__call__ = call  # type: ignore[method-assign,assignment]


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.setattr(micro_batch, "unused_memory", None)
    monkeypatch.setattr(Gradients, "__call__", Gradients.__call__)
    return _plant


def test_rows_are_divided_evenly() -> None:
    assert even_counts(14) == [1, 2, 3, 4, 5, 7, 14]
    assert [most_even(14, most) for most in (1, 4, 6, 8, 13, 14, 99)] == [1, 2, 5, 7, 7, 14, 14]
    assert most_even(13, 8) == 7  # a prime: 7 + 6, rather than 13 passes


def _largest(family: Family) -> int:
    return largest_micro_batch(family.training_run("base"), 0, partial(_build_gradients, family.recipe, None))


def test_the_largest_number_whose_measured_memory_is_free_is_chosen(
    make_family: MakeFamily, plant: Callable[..., None]
) -> None:
    family = make_family("family", AUTO, PLAIN)
    stated = make_family("family", "hardware.micro_batch=8").recipe
    needed = measure_memory(stated, 1, 1, 0).total + RESERVED  # for half of the rows
    for free, expected in ((needed, 8), (needed - 1, 4)):
        plant(free, 16)
        assert _largest(family) == expected


def test_a_device_that_runs_out_of_memory_gets_half_and_the_number_is_recorded(
    make_family: MakeFamily, plant: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    plant(1 << 40, 5)
    family = make_family("family", AUTO, PLAIN, "stages.0.until=2K")
    family.train("base")
    assert _chosen(family.folder / "base") == 4
    assert [line.split(";")[0] for line in caplog.messages if "memory" in line] == [
        "out of memory with 16 sequences in a pass",
        "out of memory with 8 sequences in a pass",
    ]
    stated = make_family("stated", "hardware.micro_batch=4", PLAIN, "stages.0.until=2K")
    stated.train("base")
    assert_same_run(family.folder / "base", stated.folder / "base")


def test_what_each_rank_does_alone_is_no_phase_in_which_it_could_wait_too_long_for_others(
    make_family: MakeFamily, plant: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several sizes are measured and tried, each compiled, which may take longer than a collective may."""
    plant(1 << 40, 5)
    phases, during = [""], set[str]()
    watch: Any = SimpleNamespace(enter=phases.append)
    run = make_family("family", AUTO, PLAIN).training_run("base")
    run = replace(run, ranks=replace(run.ranks, watch=watch))
    for name in ("measure_step", "_runs"):
        original = getattr(micro_batch, name)

        def alone(*words: object, original: Callable[..., object] = original, **keys: object) -> object:
            during.add(phases[-1])
            return original(*words, **keys)

        monkeypatch.setattr(micro_batch, name, alone)
    assert largest_micro_batch(run, 0, partial(_build_gradients, run.recipe, None)) == 4
    assert during == {""}
    assert "choosing the micro-batch" in phases


@pytest.mark.parametrize(
    ("error", "text", "fits"),
    [
        (torch.AcceleratorError, "CUDA error: out of memory", 4),
        (RuntimeError, "Triton Error [CUDA]: out of memory", 4),
        (RuntimeError, "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", 4),
        (RuntimeError, "CUDA error: device-side assert triggered", None),
    ],
)
def test_memory_that_the_driver_or_a_library_lacks_counts_too(
    make_family: MakeFamily, plant: Callable[..., None], error: type[RuntimeError], text: str, fits: int | None
) -> None:
    plant(1 << 40, 5, error, text)
    family = make_family("family", AUTO, PLAIN)
    if fits is None:
        with pytest.raises(RuntimeError, match=re.escape(text)):
            _largest(family)
    else:
        assert _largest(family) == fits


def test_a_number_that_the_recipe_states_is_not_tried_and_out_of_memory_ends_the_run(
    make_family: MakeFamily, plant: Callable[..., None]
) -> None:
    plant(1 << 40, 5)
    with pytest.raises(torch.OutOfMemoryError):
        make_family("family", "hardware.micro_batch=8", PLAIN).train("base")


@pytest.mark.slow
def test_ranks_agree_where_one_of_them_runs_out_of_memory(prepared: Path, tmp_path: Path) -> None:
    """The try sends nothing, so that the other rank does not wait for the one that fails, and leaves no trace."""
    folders = [tmp_path / name for name in ("two", "one")]
    for folder in folders:
        shutil.copytree(prepared, folder)
    enough, little = partial(_plant, 1 << 40, 16), partial(_plant, 1 << 40, 4)
    keys = (PLAIN, "stages.0.until=2K")
    codes = train_on(folders[0], 2, 2, [AUTO, *keys], in_rank={0: enough, 1: little})
    assert codes == [0, 0], [path.read_text() for path in tmp_path.glob("*.err")]
    assert _chosen(folders[0] / "base") == 4
    assert train_on(folders[1], 1, 1, keys) == [0]
    two, one = ([(step.loss, step.grad_norm) for step in step_records(folder / "base")] for folder in folders)
    assert [value for step in two for value in step] == pytest.approx([value for step in one for value in step], 1e-5)


def test_what_is_measured_is_the_fastest_and_stays_so(make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is planted; times of passes that compile do not count."""
    seconds, original, clock, seen = {16: 9, 8: 4, 4: 3}, Gradients.__call__, [0], list[int]()

    def call(self: Gradients, batch: object) -> object:
        seen.append(self.micro_batch)
        clock[0] += seconds[self.micro_batch] + 100 * (seen.count(self.micro_batch) == 1)
        return original(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Gradients, "__call__", call)
    monkeypatch.setattr(micro_batch, "time", SimpleNamespace(perf_counter_ns=lambda: clock[0]))
    family = make_family("family", MEASURED, PLAIN, "stages.0.until=2K")
    family.train("base")
    assert seen == [16, 16, 8, 8, 4, 4, 8, 8]  # two steps, each of one call
    seconds[8] = 90
    make_family("family", MEASURED, PLAIN, "stages.0.until=4K").train("base")
    assert (_chosen(family.folder / "base"), seen[8:]) == (8, [8, 8])
    stated = make_family("stated", "hardware.micro_batch=8", PLAIN, "stages.0.until=4K")
    stated.train("base")
    left, right = (weights(trained.folder / "base") for trained in (family, stated))
    assert all(torch.equal(left[name], right[name]) for name in right)
