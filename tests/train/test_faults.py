"""A rank that dies or hangs ends the others soon, by name; the same command resumes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.train.faults import Fault
from tests.train.processes import EXACT, free_port, pid_of_rank, start, train_on, wait_for_steps
from tests.train.runs import step_records
from tinyllama.checkpoint.format import steps_saved

TWENTY = ("stages.0.until=20K", "stages.1.until=30K", "stages.2.until=40K", "optimizer.learning_rate.horizon=40K")
"""A base of 20 steps."""
LONG = ("stages.0.until=60K", "stages.1.until=70K", "stages.2.until=80K", "optimizer.learning_rate.horizon=80K")
"""A base of 59 steps, so that a signal from outside comes in the middle."""
BOUND = 120.0
"""Seconds in which the others must have ended: the timeout that is set, the roll call, and a slow machine."""


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared, tmp_path / "family")
    return tmp_path / "family"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_a_lost_rank_is_named_with_what_was_being_done(folder: Path, number: signal.Signals) -> None:
    lose = Fault("step", 5, after=False, rank=1, number=number)
    first, second = start(folder, 2, 2, [*TWENTY, "hardware.collective_timeout=10"], in_rank={1: lose.plant})
    wait_for_steps(folder, 3)
    began = time.monotonic()
    first.join(BOUND)
    took = time.monotonic() - began
    second.kill()
    second.join()
    assert first.exitcode == 1, f"after {took:.0f} s"
    errors = Path(f"{folder}-rank0.err").read_text(encoding="utf-8")
    assert "rank 0 of 2: lost rank 1 during the" in errors
    assert "the same command resumes" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_one_rank_saves_all_and_ends_them(folder: Path, number: signal.Signals) -> None:
    send = Fault("step", 3, after=False, rank=1, number=number)
    ranks = start(folder, 2, 2, [*TWENTY, "checkpoints.every=1M"], in_rank={1: send.plant})
    wait_for_steps(folder, 2)
    for rank in ranks:
        rank.join(BOUND)
    assert [rank.exitcode for rank in ranks] == [128 + number] * 2
    stopped = steps_saved(folder / "base/checkpoints")[-1]
    assert 2 <= stopped < 20
    assert (
        Path(f"{folder}-rank0.err").read_text(encoding="utf-8").count(f"stopped and saved at step {stopped} of 20") == 1
    )
    assert train_on(folder, 1, 1, TWENTY) == [0]
    assert [record.step for record in step_records(folder / "base")] == list(range(1, 21))


def test_torchrun_on_two_nodes_goes_on_from_the_last_checkpoint_by_itself(folder: Path) -> None:
    sets = [word for override in (*EXACT, *LONG) for word in ("--set", override)]
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--max-restarts", "1", *meeting]
    train = ["-m", "--", "tinyllama", "train", "nano", "--variant", "base", "--run", str(folder), *sets]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "FAMILY": str(folder)}
    with (folder.parent / "log").open("w+", encoding="utf-8") as log:
        nodes = [subprocess.Popen([*torchrun, *train], stdout=log, stderr=log, env=environment) for _ in range(2)]
        try:
            wait_for_steps(folder, 8)  # past the first checkpoint
            # Only the torchrun of its node counts this as a restart.
            os.kill(pid_of_rank(1, f"FAMILY={folder}"), signal.SIGKILL)
            assert [node.wait(200) for node in nodes] == [0, 0], (folder.parent / "log").read_text()
        finally:
            for node in nodes:
                node.terminate()
                node.wait()
    said = (folder.parent / "log").read_text()
    assert "lost rank 1 during the" in said
    steps = [record.step for record in step_records(folder / "base")]
    assert steps == list(range(1, 60))
