"""The processes that train together: their ranks, what they agree on, and which of them is lost.

A single process sends nothing: every method then returns what it was given.
"""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from uuid import uuid4

import torch
from torch import distributed
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from tinyllama.errors import Interrupted, RankLostError, TinyLlamaError
from tinyllama.model.devices import CPU, choose_device, memory_of, set_current_device
from tinyllama.model.torch_internals import silent_backend, unchecked_groups
from tinyllama.train.turns import Turns
from tinyllama.train.watch import RankWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch.distributed import ProcessGroup
    from torch.distributed.distributed_c10d import Store

_Result = TypeVar("_Result")
_ROLL_CALL = 5.0
"""Seconds that survivors wait for each other's answer; torchrun kills them 30 s after it saw the first die."""
_BACKENDS = {"cuda": "nccl", "xpu": "xccl"}
"""Kind of GPU → the collectives between tensors on such GPUs."""
_JOINING = timedelta(minutes=10)
_ASKING = 0.1
"""Seconds between two polls for an answer."""


@dataclass(frozen=True)
class Ranks:
    """This process among all that train together."""

    rank: int = 0
    count: int = 1
    per_node: int = 1
    store: Store | None = None
    """Shared by all ranks, beside the collectives; None for one process."""
    timeout: timedelta | None = None
    """How long a collective waits for a rank; None for one process."""
    group: ProcessGroup | None = None
    """The group whose collectives are used; None for the default group."""
    device: torch.device = CPU
    """What this rank computes on."""
    watch: RankWatch | None = None
    """Names lost ranks where collectives run on GPUs; None where they raise errors themselves."""
    backend: str | None = None
    """Of the mesh's collectives; None for that of the default group."""
    meshes: dict[tuple[int, str, str | None], DeviceMesh] = field(default_factory=dict, compare=False, repr=False)
    """What `mesh` has made; a mesh's communicators hold memory of the device until the process ends."""
    turns: Turns = field(default_factory=Turns, compare=False, repr=False)
    """Of rank 0, while the others wait for it."""

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes files and messages."""
        return self.rank == 0

    def with_own_group(self) -> Ranks:
        """The same ranks with collectives of their own, between CPUs, for use in another thread."""
        if self.count == 1:
            return self
        group = distributed.new_group(backend="gloo", timeout=self.timeout)
        return replace(self, group=group, turns=self.turns.of_group(), watch=None)  # whose phases are this thread's

    def without_communication(self) -> Ranks:
        """The same ranks with collectives that send nothing and leave their results undefined, to try a step."""
        if self.count == 1:
            return self
        backend = silent_backend()
        with unchecked_groups():
            group = distributed.new_group(backend=backend)
        return replace(self, group=group, store=None, watch=None, backend=backend)

    @property
    def memory(self) -> int:
        """Bytes that this rank's device has for it: a card has one rank, a machine those of a node; 0 if unknown."""
        return (memory_of(self.device) or 0) // (self.per_node if self.device.type == "cpu" else 1)

    def mesh(self, size: int) -> DeviceMesh:
        """Replicas x shards of `size` ranks, the same for all models; every rank must ask for it at the same time."""
        key = size, self.device.type, self.backend
        if key not in self.meshes:
            with unchecked_groups() if self.backend else nullcontext():
                self.meshes[key] = self._make_mesh(size)
        return self.meshes[key]

    def _make_mesh(self, size: int) -> DeviceMesh:
        """With torch's own helper, collectives would wait half an hour."""
        ids = torch.arange(self.count).view(-1, size)
        groups = [
            distributed.new_subgroups_by_enumeration(  # type: ignore[no-untyped-call]
                members, timeout=self.timeout, backend=self.backend
            )[0]
            for members in (ids.T.tolist(), ids.tolist())
        ]
        # DTensor caches by meshes that are equal; one that sends nothing must not be found for one that does.
        names = tuple(f"{self.backend or ''}{name}" for name in ("replicate", "shard"))
        return DeviceMesh.from_group(groups, self.device.type, ids, mesh_dim_names=names)

    def sums(self, values: Sequence[float]) -> list[float]:
        """Sum of each value over ranks, in fp64, by one collective."""
        return self._reduced(values, torch.float64, distributed.ReduceOp.SUM)

    def largest(self, value: int) -> int:
        """Largest value of all ranks."""
        return int(self._reduced([value], torch.int64, distributed.ReduceOp.MAX)[0])

    def gather(self, value: Any) -> list[Any]:  # noqa: ANN401  # whatever can be pickled
        """Every rank's value, in order of ranks."""
        values = [value] * self.count
        if self.count > 1:
            distributed.all_gather_object(values, value, group=self.group)
        return values

    def run_on_rank0(self, function: Callable[[], _Result]) -> _Result:
        """What `function` returns on rank 0, which alone calls it; its error ends every rank.

        The others wait for as long as rank 0 is alive, so it may take longer than a collective waits.

        Raises:
            Exception: what `function` raises; on the other ranks SystemExit, since rank 0 reports it.
        """
        if self.count == 1:
            return function()
        outcome: list[Any] = [None, None]
        try:
            with self._turn():
                outcome[0] = function() if self.first else None
        except Exception as error:
            if self.first:
                distributed.broadcast_object_list([None, _exit_code(error)], group=self.group)
            raise
        distributed.broadcast_object_list(outcome, group=self.group)
        if outcome[1] is not None:
            raise SystemExit(outcome[1])
        result: _Result = outcome[0]
        return result

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """A block that rank 0 executes for all, which wait for its end without a collective."""
        if self.store is None or self.timeout is None:
            yield
            return
        turn = self.turns.next(self.store, self.timeout)
        with self.patiently():
            if self.first:
                with turn.working():
                    yield
            else:
                turn.wait()
                yield

    def raise_on_rank0(self, error: TinyLlamaError) -> NoReturn:
        """End all ranks with an error that each of them has found: rank 0 raises it, the others exit silently.

        Raises:
            TinyLlamaError: on rank 0, the error.
            SystemExit: on the others, with its exit code.
        """
        raise error if self.first else SystemExit(error.exit_code)

    def patiently(self) -> AbstractContextManager[None]:
        """A part of a phase that may take longer than a collective: what one rank does while the others wait."""
        return nullcontext() if self.watch is None else self.watch.paused()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Turn a broken or timed-out collective into an error that names the phase and the lost ranks.

        Raises:
            RankLostError: a collective failed inside the block.
        """
        if self.watch is not None:
            self.watch.enter(name)
        try:
            yield
        except RuntimeError as error:
            if self.store is None or not _is_collective(error):
                raise
            missing = self._roll_call(self.store)
            who = f"lost {missing}" if missing else "a collective failed, though every rank still answers,"
            raise RankLostError(
                f"rank {self.rank} of {self.count}: {who} during {name} ({_first_line(error)}); "
                "the last checkpoint is good, the same command resumes from it"
            ) from error
        finally:
            if self.watch is not None:
                self.watch.enter("")

    def _reduced(
        self, values: Sequence[float], dtype: torch.dtype, operation: distributed.ReduceOp.RedOpType
    ) -> list[float]:
        if self.count == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=dtype)
        distributed.all_reduce(tensor, operation, group=self.group)
        return list(map(float, tensor.tolist()))

    def _roll_call(self, store: Store) -> str:
        """Ranks that do not answer; each survivor answers when it meets the same failure."""
        missing: list[int] = []
        try:
            store.set(f"here/{self.rank}", "")
        except RuntimeError:
            return "the process that holds the store (rank 0, or torchrun on the first node)"
        for rank in range(self.count):
            try:
                # The rank that failed first waits for the others; after one is missing, a short look is enough.
                store.wait([f"here/{rank}"], timedelta(seconds=_ROLL_CALL if not missing else 0.1))
            except RuntimeError:
                missing.append(rank)
        return ", ".join(f"rank {rank}" for rank in missing)


@contextmanager
def join_ranks(timeout: int, device: str = "auto") -> Iterator[Ranks]:
    """Join the processes that torchrun started (WORLD_SIZE, LOCAL_RANK and related variables), or train alone.

    Collectives between tensors on CPUs run on gloo, on GPUs on nccl or xccl; the former are needed for agreements and
    checkpoints even where weights are on GPUs.

    Args:
        timeout: seconds that a collective waits for a rank.
        device: what to compute on, see `choose_device`; each process of a node takes one of its cards.

    Raises:
        UserError: the device does not exist, or a node has fewer cards than processes.
        RankLostError: the ranks did not all join.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    own = choose_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    set_current_device(own)
    if count == 1:
        yield Ranks(device=own)
        return
    try:
        ranks = _join(count, timedelta(seconds=timeout), own)
    except RuntimeError as error:
        me = f"rank {os.environ.get('RANK')} of {count}"
        raise RankLostError(
            f"{me}: the others did not join in time ({_first_line(error)}); see their output, and check that all nodes "
            "reach the rendezvous of torchrun"
        ) from error
    try:
        yield ranks
    except Exception as error:
        # On GPUs, peers may be inside a collective; destroying the group would wait for its end, and nothing be told.
        if ranks.watch is None or isinstance(error, Interrupted):
            distributed.destroy_process_group()
        raise
    except BaseException:  # an exit on which all ranks agree
        distributed.destroy_process_group()
        raise
    if ranks.watch is not None:
        ranks.watch.close()
    distributed.destroy_process_group()


def _join(count: int, timeout: timedelta, device: torch.device) -> Ranks:
    """Meet the other ranks; nodes may come up minutes apart."""
    shared, rank, _ = next(iter(rendezvous("env://", timeout=_JOINING)))
    shared.set_timeout(_JOINING)
    store = _fresh_part(shared, rank, count)
    os.environ.setdefault("TORCH_NCCL_DUMP_ON_TIMEOUT", "1")  # into the file that `RankWatch.record_in` names
    per_node = int(os.environ.get("LOCAL_WORLD_SIZE", count))
    backend = f"cpu:gloo,{device.type}:{_BACKENDS[device.type]}" if device.type in _BACKENDS else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=timeout)
    own = PrefixStore("ranks", store)
    watch = RankWatch(own, rank, count, timeout) if device.type in _BACKENDS else None
    return Ranks(rank, count, per_node, own, timeout, device=device, watch=watch)


def _fresh_part(shared: Store, rank: int, count: int) -> Store:
    """A part of the store that only living ranks know.

    torchrun may keep its store over a restart, and the new ranks must not find the addresses of the old ones in it:
    these are dead, but their entries remain, and torchrun's count of restarts differs between nodes. So rank 0 deletes
    all requests, then answers each rank that asks; the others ask until it does.
    """
    token = uuid4().hex
    if rank == 0:
        for other in range(1, count):
            shared.delete_key(f"asking/{other}")
        for other in range(1, count):
            shared.set(f"answer/{shared.get(f'asking/{other}').decode()}", token)
        return PrefixStore(f"attempt {token}", shared)
    answer, deadline = f"answer/{token}", time.monotonic() + _JOINING.total_seconds()
    while not shared.check([answer]):
        if time.monotonic() > deadline:
            raise RuntimeError("rank 0 does not answer")
        shared.set(f"asking/{rank}", token)
        time.sleep(_ASKING)
    return PrefixStore(f"attempt {shared.get(answer).decode()}", shared)


def _is_collective(error: RuntimeError) -> bool:
    """Whether communication failed; gloo raises plain RuntimeErrors that name its source files."""
    return isinstance(error, distributed.DistError) or any(word in str(error) for word in ("gloo", "NCCL", "Gloo"))


def _exit_code(error: Exception) -> int:
    return error.exit_code if isinstance(error, TinyLlamaError) else 1


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
