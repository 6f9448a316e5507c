"""Kill -9 a real family at random moments; the same command must end in the same bits."""

import os
import random
import shutil
import signal
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from tests.train.processes import begin
from tests.train.runs import assert_same_run

SEED = 20260
KILLS = 6
HALF = (
    "stages.0.until=30K",
    "stages.1.until=45K",
    "stages.1.ramp=5K",
    "stages.2.until=60K",
    "optimizer.learning_rate.horizon=60K",
    "evaluation.every=10K",
    "checkpoints.every=4K",
)
"""Nano with half of its steps, evaluations and checkpoints as often in them."""


def _train(folder: Path) -> ForkServerProcess:
    return begin("train", "nano", "--run", str(folder), *(word for key in HALF for word in ("--set", key)))


def _exit_code(process: ForkServerProcess, seconds: float = 300) -> int | None:
    process.join(seconds)
    return process.exitcode


def test_kills_at_random_moments_change_no_weight_and_no_metric(prepared: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        shutil.copytree(prepared, folder)
    begin("--version").join()  # the process that the others fork from imports torch
    began = time.monotonic()
    assert _exit_code(_train(whole)) == 0
    length = time.monotonic() - began

    chance, kills = random.Random(SEED), 0  # noqa: S311
    for moment in [0.3, *(chance.uniform(0.05, 0.25) for _ in range(KILLS - 1))]:
        process = _train(killed)
        if _exit_code(process, moment * length) is not None:
            break
        process.kill()
        process.join()
        kills += 1
    assert kills >= 3
    assert _exit_code(_train(killed)) == 0
    for model in ("base", "v1.1", "math_code", "chinese"):
        assert_same_run(whole / model, killed / model)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_with_the_signals_exit_code_and_goes_on(prepared: Path, tmp_path: Path, number: int) -> None:
    folder = Path(shutil.copytree(prepared, tmp_path / "family"))
    process = _train(folder)
    metrics = folder / "base/metrics.jsonl"
    while not metrics.is_file() or not metrics.stat().st_size:
        time.sleep(0.05)
        assert process.is_alive()
    assert process.pid
    os.kill(process.pid, number)
    assert _exit_code(process, 60) == 128 + number
