"""Waiting for rank 0 by the store: a collective's timeout would end what merely takes long, such as an upload."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import TYPE_CHECKING

from torch import distributed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from torch.distributed.distributed_c10d import Store

_log = logging.getLogger(__name__)
_BEAT = 5.0
"""Seconds between two signs of life of rank 0, at most; a quarter of the timeout of a collective if that is less."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.5
"""Seconds between two looks into the store."""


@dataclass
class Turns:
    """Numbers what rank 0 does for the ranks of one group, which all count alike."""

    scope: str = "rank 0"
    number: int = 0
    groups: int = 0

    def next(self, store: Store, limit: timedelta) -> Turn:
        """The next turn; every rank must ask for it at the same time."""
        self.number += 1
        return Turn(store, f"{self.scope}/{self.number}", limit.total_seconds())

    def of_group(self) -> Turns:
        """Those of another group of the same ranks, which does not count with this one."""
        self.groups += 1
        return Turns(f"{self.scope}.{self.groups}")


@dataclass(frozen=True)
class Turn:
    """Something that rank 0 does while the others wait, for as long as it takes."""

    store: Store
    name: str
    limit: float
    """Seconds without a sign of life after which rank 0 is lost."""

    @contextmanager
    def working(self) -> Iterator[None]:
        """On rank 0: the block is what the others wait for."""
        ended = Event()
        beating = Thread(target=self._beat, args=(ended,), name="sign of life", daemon=True)
        beating.start()
        try:
            yield
        finally:
            ended.set()
            self.store.set(f"{self.name}/done", "")
            beating.join()

    def wait(self) -> None:
        """On the other ranks: return when the block has ended.

        Raises:
            DistError: rank 0 gives no sign of life, or the store is gone.
        """
        own: Store = self.store.clone()  # type: ignore[attr-defined]  # not in torch's stubs
        pause, sign, since = _FIRST_PAUSE, "", time.monotonic()
        while not own.check([f"{self.name}/done"]):
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            if own.check([f"{self.name}/alive"]):
                found = own.get(f"{self.name}/alive").decode()
                if found != sign:
                    sign, since = found, time.monotonic()
            if time.monotonic() - since > self.limit:
                raise distributed.DistError(f"rank 0 gave no sign of life for {self.limit:g} seconds")

    def _beat(self, ended: Event) -> None:
        beats, every = 0, min(_BEAT, self.limit / 4)
        own: Store | None = None  # a connection of this thread
        while not ended.wait(every):
            beats += 1
            try:
                own = own or self.store.clone()  # type: ignore[attr-defined]  # not in torch's stubs
                own.set(f"{self.name}/alive", str(beats))
            except RuntimeError:
                own = None  # if the store is gone, the others find that themselves
            if beats * every >= self.limit > (beats - 1) * every:
                _log.warning("rank 0 is still at work after %g s; the other ranks wait for it", self.limit)
