"""A thread beside each rank that names lost and hanging ranks where collectives run on GPUs.

On GPUs the host queues collectives and waits for numbers inside the driver, where a lost peer raises nothing; after the
timeout the process is torn down without a message. The thread tells first, and ends the process.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import TYPE_CHECKING

from tinyllama.errors import RankLostError
from tinyllama.model.torch_internals import recorded_collectives

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta
    from pathlib import Path

    from torch.distributed.distributed_c10d import Store

_BEAT = 5.0
"""Seconds between two signs of life."""
_STALE = 6
"""Beats without a sign of life after which a rank is lost."""
_ANSWER = 3
"""Beats that rank 0 stays so that the others learn what it found."""
_MARGIN = 15.0
"""Seconds before a collective's timeout at which a hanging phase is told, since the timeout ends the process."""
_DONE = "done"


@dataclass
class _Phase:
    """What ranks do together; empty between two phases."""

    name: str = ""
    since: float = 0.0


class RankWatch:
    """Signs of life of this rank, and what became of the others'.

    Every rank writes a counter and its phase to the store. Rank 0 looks at all of them, the others at rank 0's and at
    what it found, so that the store answers a few questions per rank and beat, whatever the number of ranks.
    """

    def __init__(self, store: Store, rank: int, count: int, timeout: timedelta, beat: float = _BEAT) -> None:
        """Begin to watch.

        Args:
            store: shared by all ranks; the thread uses a connection of its own.
            rank: of this process.
            count: of all ranks.
            timeout: of a collective.
            beat: seconds between two signs of life.
        """
        self._store: Store = store.clone()  # type: ignore[attr-defined]  # not in torch's stubs
        self._rank, self._count, self._beat = rank, count, beat
        self._limit = max(timeout.total_seconds() - _MARGIN, timeout.total_seconds() / 2)
        self._phase, self._ended = _Phase(), Event()
        self._folder: Path | None = None
        self.tell: Callable[[RankLostError], None] | None = None
        """Is told the error that ends this process."""
        self._seen: dict[int, tuple[str, int]] = {}
        self._thread = Thread(target=self._watch, name="rank watch", daemon=True)
        self._thread.start()

    def record_in(self, folder: Path) -> None:
        """Have the collectives that this rank began last written to a folder if it has to end, by NCCL's watch too."""
        self._folder = folder
        os.environ.setdefault("TORCH_FR_DUMP_TEMP_FILE", str(folder / "nccl-rank-"))

    def enter(self, phase: str) -> None:
        """This rank begins a phase in which it waits for others; "" for none."""
        self._phase = _Phase(phase, time.monotonic())

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While one rank works and the others wait for it, for however long; then the phase begins anew."""
        name = self._phase.name
        self.enter("")
        yield
        self.enter(name)

    def close(self) -> None:
        """Say that this rank has ended well, and stop to watch."""
        self._ended.set()
        self._thread.join(self._beat)

    def _watch(self) -> None:
        beats = 0
        while not self._ended.wait(self._beat if beats else 0):
            beats += 1
            try:
                self._store.set(f"alive/{self._rank}", f"{beats} {self._phase.name}")
                trouble = self._trouble()
            except RuntimeError:
                trouble = "lost the process that holds the store (rank 0, or torchrun on the first node)"
            if trouble is not None and not self._ended.is_set():
                self._end(trouble)
        try:
            self._store.set(f"alive/{self._rank}", _DONE)
        except RuntimeError:
            return  # nobody is left to tell

    def _trouble(self) -> str | None:
        """What is wrong with the others, or None."""
        if self._rank == 0:
            lost = [rank for rank in range(1, self._count) if self._is_stale(rank)]
            if lost:
                found = "lost " + ", ".join(f"rank {rank}" for rank in lost)
                self._store.set("found", found)
                return found
        elif self._store.check(["found"]):
            return self._store.get("found").decode()
        elif self._is_stale(0):
            return "lost rank 0"
        phase = self._phase
        if phase.name and time.monotonic() - phase.since > self._limit:
            return f"waits in vain, while {self._elsewhere(phase.name)},"
        return None

    def _is_stale(self, rank: int) -> bool:
        """Whether a rank that was alive has given no sign of life for some beats."""
        sign = self._sign(rank)
        before, beats = self._seen.get(rank, ("", 0))
        self._seen[rank] = sign, beats + 1 if sign == before else 0
        return sign not in {"", _DONE} and self._seen[rank][1] >= _STALE

    def _sign(self, rank: int) -> str:
        key = f"alive/{rank}"
        return self._store.get(key).decode() if self._store.check([key]) else ""

    def _elsewhere(self, phase: str) -> str:
        """Which ranks are not in a phase."""
        others = {rank: self._sign(rank).partition(" ")[2] for rank in range(self._count)}
        apart = [f"rank {rank} is in {name or 'none'}" for rank, name in others.items() if name != phase]
        return ", ".join(apart) or "every rank is in it"

    def _end(self, trouble: str) -> None:
        """Report and leave at once: the main thread may be inside the driver, which no signal or exception reaches."""
        during = f" during {self._phase.name}" if self._phase.name else ""
        error = RankLostError(
            f"rank {self._rank} of {self._count}: {trouble}{during}; the last checkpoint is good, the same command "
            "resumes from it"
        )
        sys.stderr.write(f"Error: {error}\n")
        sys.stderr.flush()
        try:
            self._record()
            if self.tell is not None:
                self.tell(error)
            if self._rank == 0:  # which may hold the store in which the others look for what it found
                time.sleep(_ANSWER * self._beat)
        finally:  # whatever the record's error is
            os._exit(error.exit_code)

    def _record(self) -> None:
        """Write PyTorch's flight record, which says which collective each rank is in."""
        if self._folder is None:
            return
        path = self._folder / f"collectives-rank-{self._rank}.json"
        try:
            path.write_bytes(recorded_collectives())
        except OSError as error:
            sys.stderr.write(f"Warning: the last collectives cannot be written: {error}\n")
        else:
            sys.stderr.write(f"The collectives that it began last: {path}\n")
        sys.stderr.flush()
