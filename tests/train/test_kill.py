"""Kill -9 a real family at random moments; the same command must end in the same bits."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.train.runs import assert_same_run

SEED = 20260
KILLS = 10


def _train(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tinyllama", "train", "nano", "--run", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def test_ten_kills_at_random_moments_change_no_weight_and_no_metric(prepared: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        subprocess.run(["cp", "-r", str(prepared), str(folder)], check=True)  # noqa: S607
    began = time.monotonic()
    assert _train(whole).wait() == 0
    length = time.monotonic() - began

    chance, kills = random.Random(SEED), 0  # noqa: S311
    moments = [0.3 * length, *(chance.uniform(1.0, 0.6 * length) for _ in range(KILLS - 1))]
    for moment in moments:
        process = _train(killed)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
        else:
            break
    assert kills >= 3
    assert _train(killed).wait() == 0
    for model in ("base", "v1.1", "math_code", "chinese"):
        assert_same_run(whole / model, killed / model)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_with_the_signals_exit_code_and_goes_on(prepared: Path, tmp_path: Path, number: int) -> None:
    folder = tmp_path / "family"
    subprocess.run(["cp", "-r", str(prepared), str(folder)], check=True)  # noqa: S607
    process = _train(folder)
    metrics = folder / "base/metrics.jsonl"
    while not metrics.is_file() or not metrics.stat().st_size:
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(number)
    assert process.wait(60) == 128 + number
