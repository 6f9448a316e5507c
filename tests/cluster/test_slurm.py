"""Preparing on a real Slurm of two nodes on this machine."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import contents, fail, start, succeed
from tests.cluster.slurm import ask, local_slurm

pytestmark = pytest.mark.cluster
OPTIONS = ("--executor", "slurm", "--workers", "3", "--sbatch", "mem-per-cpu=1M")
LATER = ("--sbatch", "begin=now+1hour")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """In which commands find the cluster."""
    with local_slurm(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


def test_jobs_give_the_bytes_of_one_process(root: Path, environment: dict[str, str]) -> None:
    process = start(root, environment, "slurm", *OPTIONS)
    succeed(process)
    assert contents(root / "slurm") == contents(root / "one")
    assert not list((root / "slurm/corpora").glob(".*"))


def test_jobs_outlive_the_command_and_what_killed_ones_left_is_done_by_the_next(
    root: Path, environment: dict[str, str]
) -> None:
    first = start(root, environment, "slurm-killed", *OPTIONS, *LATER)
    jobs = wait_for_jobs(environment)
    first.kill()
    first.communicate()
    again = start(root, environment, "slurm-killed", *OPTIONS)
    for line in again.stderr or ():
        if "Slurm jobs" in line:
            assert all(job in line for job in jobs)
            break
    ask(environment, "scontrol", "update", f"JobId={jobs[0]}", "StartTime=now")
    while not list((root / "slurm-killed/corpora").glob(".prose.work/task-*")):
        time.sleep(0.1)
    ask(environment, "scancel", *jobs)
    assert "run the same command again" in fail(again, 1)
    last = start(root, environment, "slurm-killed", *OPTIONS)
    succeed(last)
    assert contents(root / "slurm-killed") == contents(root / "one")


def test_another_executor_leaves_running_jobs_alone(root: Path, environment: dict[str, str]) -> None:
    process = start(root, environment, "slurm-shared", *OPTIONS, *LATER)
    jobs = wait_for_jobs(environment)
    other = start(root, environment, "slurm-shared", "--workers", "1")
    assert "are preparing this corpus; wait for them" in fail(other, 2)
    ask(environment, "scancel", *jobs)
    fail(process, 1)


def test_a_mistake_that_a_job_met_is_told_as_if_it_had_been_met_here(root: Path, environment: dict[str, str]) -> None:
    process = start(root, environment, "slurm-damaged", *OPTIONS, "--set", "corpora.prose.max_damaged=0%")
    assert "9 of 1359 documents are damaged" in fail(process, 2)


def wait_for_jobs(environment: dict[str, str]) -> list[str]:
    """Ids of the jobs in the queue, as soon as the three stages are there."""
    for _ in range(600):
        names = ask(environment, "squeue", "--noheader", "--format=%A").split()
        if len(set(names)) >= 3:
            return sorted(set(names), key=int)
        time.sleep(0.2)
    raise AssertionError("no jobs appeared in the queue")
