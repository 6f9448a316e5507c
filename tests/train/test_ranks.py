"""No collective waits longer than the recipe says, whichever group it belongs to."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import pytest
import torch
from torch import distributed

from tests.train.processes import free_port
from tinyllama.errors import RankLostError
from tinyllama.model.torch_internals import fake_process_group
from tinyllama.train.ranks import Ranks, join_ranks
from tinyllama.train.watch import RankWatch

_CONTEXT = multiprocessing.get_context("forkserver")
_TIMEOUT = 2
"""Seconds that a collective may wait; torch's own default is half an hour."""


def _own_group(ranks: Ranks) -> Callable[[], object]:
    own = ranks.with_own_group()
    return lambda: own.sums([1.0])


def _shards(ranks: Ranks) -> Callable[[], object]:
    mesh = ranks.mesh(2)
    return lambda: distributed.all_reduce(torch.ones(1), group=mesh.get_group("shard"))


def _replicas(ranks: Ranks) -> Callable[[], object]:
    mesh = ranks.mesh(1)
    return lambda: distributed.all_reduce(torch.ones(1), group=mesh.get_group("replicate"))


def _wait_for_the_other(
    rank: int, port: int, group: Callable[[Ranks], Callable[[], object]], said: Connection, end: Connection
) -> None:
    """Rank 0 begins a collective to which rank 1, though alive, never comes."""
    os.environ.update(
        RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    with join_ranks(_TIMEOUT) as ranks:
        collective = group(ranks)
        if rank == 1:
            end.recv()
            return
        try:
            collective()
        except RuntimeError as error:
            said.send(str(error))


@pytest.mark.parametrize("group", [_own_group, _shards, _replicas])
def test_every_group_waits_as_long_as_the_recipe_says(group: Callable[[Ranks], Callable[[], object]]) -> None:
    port = free_port()
    (heard, said), (end, ends) = _CONTEXT.Pipe(duplex=False), _CONTEXT.Pipe(duplex=False)
    processes = [_CONTEXT.Process(target=_wait_for_the_other, args=(r, port, group, said, end)) for r in range(2)]
    for process in processes:
        process.start()
    try:
        assert heard.poll(60), "rank 0 still waits"
        assert "imed out" in heard.recv()
    finally:
        ends.send(None)
        for process in processes:
            process.join(60)


def test_all_models_of_a_family_share_communicators_but_not_with_tries() -> None:
    with fake_process_group(4):
        ranks = Ranks(0, 4, 2)
        silent = ranks.without_communication()
        assert ranks.mesh(2) is ranks.mesh(2)
        assert silent.mesh(2) is silent.mesh(2)
        assert len({id(ranks.mesh(2)), id(ranks.mesh(4)), id(silent.mesh(2))}) == 3
        assert ranks.mesh(2) != silent.mesh(2)


def _sum_of_silent(rank: int, port: int, said: Connection) -> None:
    """Rank 1 never comes to the collectives that send nothing."""
    os.environ.update(
        RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    c10d: Any = distributed
    c10d.set_debug_level(c10d.DebugLevel.DETAIL)
    with join_ranks(_TIMEOUT) as ranks:
        silent = ranks.without_communication()
        mesh = silent.mesh(2)
        if rank == 0:
            found = silent.largest(7)
            distributed.all_reduce(torch.ones(1), group=mesh.get_group("fakeshard"))
            said.send((found, c10d.get_debug_level() == c10d.DebugLevel.DETAIL))
        assert ranks.largest(rank) == 1


def test_collectives_that_send_nothing_are_not_checked_among_ranks() -> None:
    port = free_port()
    heard, said = _CONTEXT.Pipe(duplex=False)
    processes = [_CONTEXT.Process(target=_sum_of_silent, args=(rank, port, said)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert heard.recv() == (7, True)


def _work_long(rank: int, port: int, said: Connection, how: str) -> None:
    """Rank 0 works for longer than a collective waits, or stands still; the store is elsewhere, as with torchrun."""
    os.environ.update(
        RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
        TORCHELASTIC_USE_AGENT_STORE="True",
    )  # fmt: skip

    def work() -> str:
        if how == "stops":
            os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(3 * _TIMEOUT)
        return "done"

    with join_ranks(_TIMEOUT) as joined:
        ranks = joined
        if how == "watched":  # as on GPUs
            assert joined.store is not None
            ranks = replace(joined, watch=RankWatch(joined.store, rank, 2, timedelta(seconds=4 * _TIMEOUT), beat=1))
        used = ranks.with_own_group() if how == "own group" else ranks
        try:
            with ranks.phase("the work"):
                found = [used.run_on_rank0(work), used.sums([1.0]), used.run_on_rank0(lambda: "again")]
            if rank == 1:
                said.send(found)
        except RankLostError as error:
            said.send(str(error))


@contextmanager
def _two(how: str) -> Iterator[tuple[list[BaseProcess], Connection]]:
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    heard, said = _CONTEXT.Pipe(duplex=False)
    ranks = [_CONTEXT.Process(target=_work_long, args=(rank, store.port, said, how)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    yield ranks, heard
    for process in ranks:
        process.kill()
        process.join(30)


@pytest.mark.parametrize("how", ["default group", "own group", "watched"])
def test_what_rank_0_does_for_all_may_take_longer_than_a_collective(how: str) -> None:
    with _two(how) as (ranks, heard):
        assert heard.poll(60)
        assert heard.recv() == ["done", [2.0], "again"]
        for process in ranks:
            process.join(30)
            assert process.exitcode == 0


def test_a_rank_0_that_stands_still_meanwhile_is_lost() -> None:
    with _two("stops") as (_, heard):
        assert heard.poll(60)
        assert "rank 1 of 2: lost rank 0 during the work" in heard.recv()
