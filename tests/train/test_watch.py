"""Lost and hanging ranks are named where nothing raises: real processes and a real store, the driver is a sleep."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.train.processes import free_port

RANK = """
import sys, time
from datetime import timedelta
from pathlib import Path
from torch.distributed import TCPStore
from tinyllama.train.watch import RankWatch

rank, port, phase, timeout, seconds, folder = (convert(word) for convert, word in
                                               zip((int, int, str, float, float, str), sys.argv[1:], strict=True))
store = TCPStore("127.0.0.1", port, 3, rank == 0, timeout=timedelta(seconds=60), wait_for_workers=False)
watch = RankWatch(store, rank, 3, timedelta(seconds=timeout), beat=0.1)
watch.record_in(Path(folder))
watch.enter(phase)
watch.tell = lambda error: print("told:", error, flush=True)
print("ready", flush=True)
time.sleep(seconds)  # inside the driver
watch.close()
store.set(f"left/{rank}", "")
if rank == 0:
    store.wait(["left/1", "left/2"])
"""


def _start(  # noqa: PLR0913, PLR0917  # what a rank is told
    rank: int, port: int, phase: str, timeout: float, seconds: float, folder: str = "/nowhere"
) -> subprocess.Popen[str]:
    words = [str(word) for word in (rank, port, phase, timeout, seconds, folder)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", RANK, *words], text=True, **streams)  # type: ignore[call-overload,no-any-return]


def _ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout
    assert process.stdout.readline() == "ready\n"


@pytest.mark.parametrize("lost", [0, 2])
def test_survivors_name_the_rank_that_was_killed_and_the_phase(lost: int) -> None:
    port = free_port()
    ranks = [_start(rank, port, "the gradients of step 7", 600, 60) for rank in range(3)]
    for process in ranks:
        _ready(process)
    time.sleep(0.5)
    ranks[lost].kill()
    for rank, process in enumerate(ranks):
        told, said = process.communicate(timeout=30)
        if rank != lost:
            assert f"told: rank {rank} of 3: lost" in told
            assert process.returncode == 1
            who = f"lost rank {lost}" if lost else "lost"
            assert f"Error: rank {rank} of 3: {who}" in said
            assert "during the gradients of step 7; the last checkpoint is good" in said
            assert "Warning: the last collectives cannot be written" in said


def test_a_rank_that_waits_too_long_says_where_the_others_are(tmp_path: Path) -> None:
    port = free_port()
    phases = ("the gradients of step 7", "the held-out losses of step 6", "the gradients of step 7")
    ranks = [_start(rank, port, phase, 2.0, 4.0, str(tmp_path)) for rank, phase in enumerate(phases)]
    said = [process.communicate(timeout=60)[1] for process in ranks]
    assert any("waits in vain, while rank 1 is in the held-out losses of step 6" in text for text in said), said
    written = [json.loads(path.read_text()) for path in tmp_path.glob("collectives-rank-*.json")]
    assert written
    assert all("pg_status" in record for record in written)


def test_ranks_that_end_one_after_the_other_are_not_lost() -> None:
    port = free_port()
    ranks = [_start(rank, port, "", 600, seconds) for rank, seconds in enumerate((3.0, 0.5, 2.0))]
    assert [(process.communicate(timeout=60)[1], process.returncode) for process in ranks] == [("", 0)] * 3


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
