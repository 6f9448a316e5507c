"""Preparing on a real Ray cluster of two nodes on this machine."""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import contents, start, succeed

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """In which commands find the cluster."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=2, memory=8 << 30, object_store_memory=100 << 20, include_dashboard=False)
        yield {**os.environ, "RAY_ADDRESS": cluster.address}
    finally:
        cluster.shutdown()


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_jobs_gives_the_bytes_of_one_process(
    root: Path, environment: dict[str, str], workers: int
) -> None:
    process = start(root, environment, f"ray-{workers}", "--executor", "ray", "--workers", str(workers))
    succeed(process)
    assert contents(root / f"ray-{workers}") == contents(root / "one")


def test_killed_jobs_are_started_again_and_a_killed_command_goes_on(root: Path, environment: dict[str, str]) -> None:
    dice, options = random.Random(2), ("--executor", "ray", "--workers", "4")  # noqa: S311  # a test's variety
    for _ in range(3):
        process = start(root, environment, "killed", *options)
        time.sleep(dice.uniform(5, 15))
        process.kill()
        process.communicate()
    process = start(root, environment, "killed", *options)
    killed = 0
    while process.poll() is None and killed < 3:
        for pid in jobs()[:1]:
            os.kill(pid, signal.SIGKILL)
            killed += 1
        time.sleep(1)
    succeed(process)
    assert contents(root / "killed") == contents(root / "one")


def jobs() -> list[int]:
    """Processes of this machine that are jobs of a cluster of ours."""
    mine = os.getpid()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray::RankWorker" in (folder / "cmdline").read_bytes() and _is_below(int(folder.name), mine):
                found.append(int(folder.name))
        except OSError:
            continue  # it ended meanwhile
    return found


def _is_below(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False
