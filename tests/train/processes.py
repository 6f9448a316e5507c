"""Real processes that train together, started as torchrun starts them but from one that has imported torch."""

import multiprocessing
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from tests.conftest import SMALL
from tinyllama.train.metrics import read_metrics

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.train.processes", "tests.train.preloaded", "tinyllama.studio.work"])
EXACT = (*SMALL, "precision=fp32")
"""Compared step by step, to the order of additions."""


def warm_up() -> None:
    """Start the process that the others are forked from."""
    forkserver.ensure_running()


def start(  # noqa: PLR0913, PLR0917  # a cluster and what it does
    folder: Path,
    ranks: int,
    per_node: int,
    overrides: Sequence[str] = (),
    model: str = "base",
    of_rank: dict[int, str] | None = None,
    in_rank: Mapping[int, Callable[[], None]] | None = None,
) -> list[ForkServerProcess]:
    """Begin to train a model of a prepared folder on so many ranks.

    `of_rank` gives single ranks an override of their own, `in_rank` something to do before they begin.
    """
    port = free_port()
    processes: list[ForkServerProcess] = []
    for rank in range(ranks):
        environment = {
            "RANK": str(rank),
            "WORLD_SIZE": str(ranks),
            "LOCAL_WORLD_SIZE": str(per_node),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        own = [(of_rank or {})[rank]] if rank in (of_rank or {}) else []
        first = (in_rank or {}).get(rank)
        arguments = (environment, str(folder), model, [*EXACT, *overrides, *own], first)
        processes.append(CONTEXT.Process(target=_one_rank, args=arguments))
    for process in processes:
        process.start()
    return processes


def begin(*arguments: str) -> ForkServerProcess:
    """Begin the command with arguments, silently; it ends with the exit code of `tinyllama`."""
    process = CONTEXT.Process(target=_silent_command, args=arguments)
    process.start()
    return process


def silently(work: Callable[..., object], *arguments: object) -> None:
    """Run a function in a child process whose errors go nowhere."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    work(*arguments)


def free_port() -> int:
    """One that nobody listens on, of this machine's own address."""
    while True:
        # Below the ports that connections take by themselves, which another test's may before a process listens here.
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


def train_on(*arguments: Any, **keywords: Any) -> list[int | None]:  # noqa: ANN401  # those of `start`
    """As `start`, to the end; returns the exit codes."""
    processes = start(*arguments, **keywords)
    for process in processes:
        process.join(240)
    return [process.exitcode for process in processes]


def wait_for_steps(folder: Path, steps: int, model: str = "base", seconds: float = 120) -> None:
    """Return when a model has been trained for so many records."""
    deadline = time.monotonic() + seconds
    while len(list(read_metrics(folder / model / "metrics.jsonl"))) < steps:
        assert time.monotonic() < deadline, "no step was trained"
        time.sleep(0.05)


def pid_of_rank(rank: int, variable: str) -> int:
    """The rank that torchrun started with a variable in its environment; the rank's own children have it too."""
    found = [path for path in Path("/proc").iterdir() if path.name.isdigit() and _has(path, f"RANK={rank}", variable)]
    return next(int(path.name) for path in found if not _has(path.parent / _parent(path), "RANK"))


def _has(process: Path, *variables: str) -> bool:
    """Whether a process has variables, given as NAME or NAME=VALUE."""
    try:
        pairs = (process / "environ").read_text(errors="replace").split("\0")
    except OSError:
        return False
    return {*variables} <= {*pairs, *(pair.partition("=")[0] for pair in pairs)}


def _parent(process: Path) -> str:
    return (process / "stat").read_text().rpartition(")")[2].split()[1]


def _silent_command(*arguments: str) -> None:
    from tinyllama.cli import main

    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        for stream in (1, 2):
            os.dup2(nowhere.fileno(), stream)
    sys.argv = ["tinyllama", *arguments]
    main()


def _one_rank(
    environment: dict[str, str], folder: str, model: str, overrides: list[str], first: Callable[[], None] | None
) -> None:
    from tinyllama.cli import main

    os.environ.update(environment)
    if first is not None:
        first()
    sets = [word for override in overrides for word in ("--set", override)]
    sys.argv = ["tinyllama", "train", "nano", "--variant", model, "--run", folder, *sets]
    with Path(f"{folder}-rank{environment['RANK']}.err").open("w", encoding="utf-8", buffering=1) as errors:
        sys.stderr = errors
        sys.stdout = errors
        main()
