"""Jobs on a real Slurm: stopped at their limit, killed, and gone on to the very bits of a run that never stopped."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.slurm import ask, local_slurm
from tests.train.processes import EXACT, pid_of_rank, train_on, wait_for_steps
from tests.train.runs import assert_same_run

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1200)]
LONG = ("stages.0.until=100K", "stages.1.until=110K", "stages.2.until=120K", "optimizer.learning_rate.horizon=120K")
"""A base of 98 steps, so that whatever happens comes in the middle."""
_PATIENCE = 600.0


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with local_slurm(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared, tmp_path / "family")
    return tmp_path / "family"


@dataclass(frozen=True)
class Job:
    """A training that was launched."""

    number: str
    family: Path
    slurm: dict[str, str]

    @property
    def log(self) -> str:
        """All that it has said, over all of its turns."""
        path = self.family / f"slurm/{self.number}.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    @property
    def facts(self) -> dict[str, str]:
        """What Slurm knows of it."""
        return dict(re.findall(r"(\w+)=(\S*)", ask(self.slurm, "scontrol", "--oneliner", "show", "job", self.number)))

    def pid(self, rank: int) -> int:
        return pid_of_rank(rank, f"SLURM_JOB_ID={self.number}")

    def wait_until_it_says(self, text: str, times: int) -> None:
        deadline = time.monotonic() + _PATIENCE
        while self.log.count(text) < times:
            assert time.monotonic() < deadline, self.log
            time.sleep(0.2)

    def wait_until_it_ends(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while self.facts["JobState"] in {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING"}:
            assert time.monotonic() < deadline, self.log
            time.sleep(0.5)


def _launch(slurm: dict[str, str], family: Path, *options: str) -> Job:
    sets = [word for override in (*EXACT, *LONG) for word in ("--set", override)]
    command = [sys.executable, "-m", "tinyllama", "launch", "nano", "--variant", "base", "--run", str(family), *sets]
    done = subprocess.run(
        [*command, "--gpus-per-node", "0", *options],
        env={**slurm, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Job(done.stdout.strip(), family, slurm)


def _uninterrupted(prepared: Path, folder: Path, ranks: int) -> Path:
    shutil.copytree(prepared, folder)
    assert train_on(folder, ranks, 1, LONG) == [0] * ranks
    return folder / "base"


@pytest.fixture(scope="module")
def alone(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _uninterrupted(prepared, tmp_path_factory.mktemp("alone") / "family", 1)


@pytest.fixture(scope="module")
def pair(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _uninterrupted(prepared, tmp_path_factory.mktemp("pair") / "family", 2)


@contextmanager
def _held(job: Job, rank: int) -> Iterator[None]:
    """Keep a rank where it is until all nodes' torchruns were signalled, however fast the machine trains."""
    pid = job.pid(rank)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
        job.wait_until_it_says("death signal, shutting down workers", times=int(job.facts["NumNodes"]))
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_job_that_meets_its_limit_queues_again_and_ends_in_the_same_bits(
    slurm: dict[str, str], folder: Path, alone: Path
) -> None:
    job = _launch(slurm, folder, "--time", "4", "--notice", "60")
    wait_for_steps(folder, 8, seconds=_PATIENCE)
    with _held(job, 0):
        pass
    job.wait_until_it_ends()
    assert job.facts["JobState"] == "COMPLETED", job.log
    assert job.facts["Restarts"] == "1"
    assert "stopped and saved at step" in job.log
    assert_same_run(folder / "base", alone)


def test_a_notice_to_two_nodes_saves_both_and_they_go_on_in_the_same_bits(
    slurm: dict[str, str], folder: Path, pair: Path
) -> None:
    job = _launch(slurm, folder, "--nodes", "2")
    wait_for_steps(folder, 8, seconds=_PATIENCE)
    with _held(job, 1):
        ask(slurm, "scancel", "--batch", "--signal=USR1", job.number)  # as Slurm does before the limit
    job.wait_until_it_ends()
    assert job.facts["JobState"] == "COMPLETED", job.log
    assert job.facts["Restarts"] == "1"
    assert job.log.count("stopped and saved at step") == 1
    assert_same_run(folder / "base", pair)


def test_a_killed_rank_on_the_second_node_is_started_again_in_the_same_turn(
    slurm: dict[str, str], folder: Path, pair: Path
) -> None:
    job = _launch(slurm, folder, "--nodes", "2", "--max-restarts", "2")
    wait_for_steps(folder, 12, seconds=_PATIENCE)  # past the first checkpoint
    os.kill(job.pid(1), signal.SIGKILL)
    job.wait_until_it_ends()
    assert job.facts["JobState"] == "COMPLETED", job.log
    assert job.facts["Restarts"] == "0"
    assert "lost rank 1 during the" in job.log
    assert_same_run(folder / "base", pair)


def test_a_job_that_fails_is_not_queued_again(slurm: dict[str, str], folder: Path) -> None:
    job = _launch(slurm, folder, "--max-restarts", "0", "--set", "checkpoints.keep=1000000000")
    job.wait_until_it_ends()
    assert job.facts["JobState"] == "FAILED"
    assert job.facts["Restarts"] == "0"
    assert "make room" in job.log
