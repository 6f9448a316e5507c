"""A thread that talks to services outside this program, for which training does not wait and by which it never ends."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from queue import Full, Queue
from threading import Thread
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_log = logging.getLogger(__name__)
_MOST = 10_000
"""Actions that may wait; a service that is this far behind does not get later ones."""


class Outbox:
    """Carries out actions in order, in a thread; the first that fails is a warning, and later ones are still tried."""

    def __init__(self, key: str, explain: Callable[[Exception], str] | None = None) -> None:
        """Begin with nothing to do.

        Args:
            key: the recipe key that names the service, for the warning.
            explain: what the warning says of an error; its first line by default.
        """
        self._key, self._explain = key, explain or _first_line
        self._warned = False
        self._actions: Queue[Callable[[], object] | None] = Queue(_MOST)
        self._thread = Thread(target=self._run, name=key, daemon=True)
        self._thread.start()

    def put(self, action: Callable[[], object]) -> None:
        """Have an action carried out; returns at once."""
        try:
            self._actions.put_nowait(action)
        except Full:
            self._warn(f"{_MOST:,} messages wait")

    def close(self, seconds: float) -> None:
        """Wait until all actions are done, but only `seconds` seconds; the program then ends without them."""
        end = time.monotonic() + seconds
        with suppress(Full):
            self._actions.put(None, timeout=seconds)
        self._thread.join(max(0.0, end - time.monotonic()))
        if self._thread.is_alive():
            self._warn(f"no answer in {seconds:g} s")

    def _run(self) -> None:
        while (action := self._actions.get()) is not None:
            with _Tolerated(self._failed):
                action()

    def _failed(self, error: Exception) -> None:
        self._warn(self._explain(error))

    def _warn(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            _log.warning("%s: does not get everything (%s); training continues", self._key, reason)


class _Tolerated:
    """A block whose errors are told and end nothing: each service's client has errors of its own."""

    def __init__(self, tell: Callable[[Exception], None]) -> None:
        self._tell = tell

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, Exception):
            self._tell(error)
        return error is None or isinstance(error, Exception)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
