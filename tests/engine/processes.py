"""Real processes that train together, started as torchrun starts them but from one that has imported torch."""

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from tests.conftest import SMALL

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.engine.processes", "tinyllama.engine", "tinyllama.evaluate.bits"])
EXACT = (*SMALL, "precision=fp32")
"""Compared step by step, to the order of additions."""


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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
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
        processes.append(_CONTEXT.Process(target=_one_rank, args=arguments))
    for process in processes:
        process.start()
    return processes


def train_on(*arguments: Any, **keywords: Any) -> list[int | None]:  # noqa: ANN401  # those of `start`
    """As `start`, to the end; returns the exit codes."""
    processes = start(*arguments, **keywords)
    for process in processes:
        process.join(240)
    return [process.exitcode for process in processes]


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
