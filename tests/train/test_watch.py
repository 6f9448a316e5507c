"""Lost and hanging ranks are named where nothing raises: real processes and a real store, the driver is a sleep."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from tests.train.processes import CONTEXT, free_port
from tinyllama.train.watch import RankWatch


@dataclass(frozen=True)
class _Rank:
    """A process that is one of three ranks; its streams are files."""

    process: ForkServerProcess
    ready: Event
    streams: Path
    """Folder of `out` and `err`."""

    def ended(self, seconds: float = 60) -> tuple[str, str, int | None]:
        """Stdout, stderr and exit code of the process, once it has ended."""
        self.process.join(seconds)
        out, err = ((self.streams / name).read_text() for name in ("out", "err"))
        return out, err, self.process.exitcode


@pytest.fixture
def begin(tmp_path: Path) -> Callable[..., _Rank]:
    """Begin a rank: begin(rank, port, phase, timeout, seconds, folder)."""

    def begin(rank: int, *words: str | float) -> _Rank:
        ready, streams = CONTEXT.Event(), tmp_path / f"rank-{rank}"
        streams.mkdir()
        process = CONTEXT.Process(target=_watched, args=(ready, streams, rank, *words))
        process.start()
        return _Rank(process, ready, streams)

    return begin


def _store(port: int) -> TCPStore:
    return TCPStore("127.0.0.1", port, is_master=False, timeout=timedelta(seconds=60))


@pytest.fixture
def port() -> Iterator[int]:
    """Of a store that outlives all ranks."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    yield store.port
    del store


def _watched(  # noqa: PLR0913, PLR0917  # what a rank is told
    ready: Event,
    streams: Path,
    rank: int,
    port: int,
    phase: str,
    timeout: float,
    seconds: float,
    folder: str = "/nowhere",
    beat: float = 0.1,
) -> None:
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(streams / name, os.O_WRONLY | os.O_CREAT), number)
    store = _store(port)
    watch = RankWatch(store, rank, 3, timedelta(seconds=timeout), beat=beat)
    watch.record_in(Path(folder))
    watch.enter(phase)
    watch.tell = lambda error: os.write(1, f"told: {error}\n".encode())
    ready.set()
    time.sleep(seconds)  # inside the driver
    watch.close()
    store.set(f"left/{rank}", "")
    if rank == 0:
        store.wait(["left/1", "left/2"])


@pytest.mark.parametrize("lost", [0, 2])
def test_survivors_name_the_rank_that_was_killed_and_the_phase(
    begin: Callable[..., _Rank], port: int, lost: int
) -> None:
    ranks = [begin(rank, port, "the gradients of step 7", 600, 60, "/nowhere", 0.3) for rank in range(3)]
    assert all(rank.ready.wait(60) for rank in ranks)
    _store(port).wait([f"alive/{rank}" for rank in range(3)])
    ranks[lost].process.kill()
    for number, rank in enumerate(ranks):
        told, said, code = rank.ended(30)
        if number != lost:
            assert f"told: rank {number} of 3: lost" in told
            assert code == 1
            assert f"Error: rank {number} of 3: lost rank {lost}" in said
            assert "during the gradients of step 7; the last checkpoint is good" in said
            assert "Warning: the last collectives cannot be written" in said


def test_survivors_say_that_the_store_is_lost(begin: Callable[..., _Rank], tmp_path: Path) -> None:
    program = """
import sys, time
from torch.distributed import TCPStore
store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
print(store.port, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        port = int(holder.stdout.readline())
        ranks = [begin(rank, port, "the gradients of step 7", 600, 60, str(tmp_path)) for rank in range(3)]
        assert all(rank.ready.wait(60) for rank in ranks)
        holder.kill()
    for number, rank in enumerate(ranks):
        _, said, code = rank.ended(30)
        assert f"Error: rank {number} of 3: lost the process that holds the store" in said
        assert code == 1


def test_a_rank_that_waits_too_long_says_where_the_others_are(
    begin: Callable[..., _Rank], port: int, tmp_path: Path
) -> None:
    elsewhere = begin(1, port, "the held-out losses of step 6", 600, 60, str(tmp_path))
    _store(port).wait(["alive/1"])
    assert elsewhere.ready.wait(60)
    until = time.monotonic() + 60
    while b"held-out" not in _store(port).get("alive/1"):
        assert time.monotonic() < until
        time.sleep(0.05)
    ranks = [begin(rank, port, "the gradients of step 7", 2.0, 60, str(tmp_path)) for rank in (0, 2)]
    said = [rank.ended()[1] for rank in ranks]
    elsewhere.process.kill()
    assert any("waits in vain, while rank 1 is in the held-out losses of step 6" in text for text in said), said
    written = [json.loads(path.read_text()) for path in tmp_path.glob("collectives-rank-*.json")]
    assert written
    assert all("pg_status" in record for record in written)


def test_ranks_that_end_one_after_the_other_are_not_lost(begin: Callable[..., _Rank], port: int) -> None:
    ranks = [begin(rank, port, "", 600, seconds, "/nowhere", 1) for rank, seconds in enumerate((3.0, 0.5, 2.0))]
    assert [rank.ended()[1:] for rank in ranks] == [("", 0)] * 3


def test_a_rank_ends_even_if_its_collectives_cannot_be_recorded(tmp_path: Path) -> None:
    program = """
import sys, time
from datetime import timedelta
from pathlib import Path
from torch.distributed import TCPStore
from tinyllama.train import watch

def broken():
    raise RuntimeError("the recorder is broken")

watch.recorded_collectives = broken
store = TCPStore("127.0.0.1", int(sys.argv[1]), 1, True, timeout=timedelta(seconds=60))
rank = watch.RankWatch(store, 0, 1, timedelta(seconds=1), beat=0.1)
rank.record_in(Path(sys.argv[2]))
rank.enter("the gradients of step 7")
time.sleep(30)  # inside the driver
"""
    command = [sys.executable, "-c", program, str(free_port()), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "waits in vain" in done.stderr) == (1, True)
