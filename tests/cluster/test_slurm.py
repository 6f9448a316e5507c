"""Preparing on a real Slurm of two nodes on this machine."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import contents, start
from tests.cluster.slurm import ask, local_slurm

pytestmark = pytest.mark.cluster
OPTIONS = ("--executor", "slurm", "--workers", "3", "--sbatch", "mem-per-cpu=100M")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """In which commands find the cluster."""
    with local_slurm(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


def test_jobs_give_the_bytes_of_one_process(root: Path, environment: dict[str, str]) -> None:
    process = start(root, environment, "slurm", *OPTIONS)
    assert process.wait() == 0, process.communicate()
    assert contents(root / "slurm") == contents(root / "one")
    assert not list((root / "slurm/corpora").glob(".*"))


def test_jobs_outlive_the_command_and_what_killed_ones_left_is_done_by_the_next(
    root: Path, environment: dict[str, str]
) -> None:
    first = start(root, environment, "killed", *OPTIONS)
    jobs = wait_for_jobs(environment)
    first.kill()
    first.communicate()
    again = start(root, environment, "killed", *OPTIONS)
    time.sleep(5)
    ask(environment, "scancel", *jobs)
    output, messages = again.communicate()
    assert again.returncode in {0, 1}, (output, messages)
    assert "run the same command again" in messages or again.returncode == 0
    assert again.returncode == 0 or "Slurm jobs" in messages
    last = start(root, environment, "killed", *OPTIONS)
    assert last.wait() == 0, last.communicate()
    assert contents(root / "killed") == contents(root / "one")


def test_another_executor_leaves_running_jobs_alone(root: Path, environment: dict[str, str]) -> None:
    process = start(root, environment, "shared", *OPTIONS, "--sbatch", "begin=now+1hour")
    jobs = wait_for_jobs(environment)
    other = start(root, environment, "shared", "--workers", "1")
    output, messages = other.communicate()
    assert other.returncode == 2, output
    assert "are preparing this corpus; wait for them" in messages
    ask(environment, "scancel", *jobs)
    assert process.wait() == 1


def test_a_mistake_that_a_job_met_is_told_as_if_it_had_been_met_here(root: Path, environment: dict[str, str]) -> None:
    process = start(root, environment, "damaged", *OPTIONS, "--set", "corpora.prose.max_damaged=0")
    output, messages = process.communicate()
    assert process.returncode == 2, output
    assert "9 of 1359 documents are damaged" in messages


def wait_for_jobs(environment: dict[str, str]) -> list[str]:
    """Ids of the jobs in the queue, as soon as the three stages are there."""
    for _ in range(600):
        names = ask(environment, "squeue", "--noheader", "--format=%A").split()
        if len(set(names)) >= 3:
            return sorted(set(names))
        time.sleep(0.2)
    raise AssertionError("no jobs appeared in the queue")
