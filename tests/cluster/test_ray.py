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


def test_a_killed_command_goes_on(root: Path, environment: dict[str, str]) -> None:
    dice, options = random.Random(2), ("--executor", "ray", "--workers", "4")  # noqa: S311  # a test's variety
    for _ in range(4):
        process = start(root, environment, "ray-stopped", *options)
        time.sleep(dice.uniform(2, 5))
        process.kill()
        process.communicate()
    succeed(start(root, environment, "ray-stopped", *options))
    assert contents(root / "ray-stopped") == contents(root / "one")


def test_killed_jobs_are_started_again(root: Path, environment: dict[str, str]) -> None:
    process = start(root, environment, "ray-killed", "--executor", "ray", "--workers", "2")
    killed: set[int] = set()
    while process.poll() is None and len(killed) < 2:
        for pid in set(jobs()[:1]) - killed:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        time.sleep(0.05)
    succeed(process)
    assert killed
    assert contents(root / "ray-killed") == contents(root / "one")


def jobs() -> list[int]:
    """Processes of this machine that are jobs of a cluster of ours."""
    mine = os.getpid()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray::RankWorker.run_for_rank" in (folder / "cmdline").read_bytes() and _is_below(
                int(folder.name), mine
            ):
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
