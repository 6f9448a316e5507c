"""An engine: a process that trains, measured from outside and stopped whenever it is not its turn.

Every engine runs as its users run it, in a process of its own, and appends a JSON line with `step` and `loss` per
optimizer step to a file. Between its turns it is suspended (SIGSTOP); its steps are timed on a clock that runs only
while it does. So engines can take turns although each has its own loop, allocator and threads.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    from types import TracebackType

_PR_SET_PDEATHSIG = 1
_POLL = 0.002
"""Seconds between looks at the records: under 1% of the shortest step."""


class EngineError(Exception):
    """An engine died or took too long; the message ends with its last output."""


@dataclass(frozen=True)
class Engine:
    """How to run one competitor."""

    name: str
    command: list[str]
    folder: Path
    """Of its log (`log.txt`) and whatever it writes; it must exist."""
    records: Path
    """Where it appends its JSON lines."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables set for it on top of ours."""
    tuned_as: str | None = None
    """Name of an earlier engine whose environment, as that engine set it for itself, this one gets."""


class Stamp(NamedTuple):
    """An engine's progress at a time."""

    step: int
    clock: float
    """Seconds that the engine had been running."""


class Process:
    """A started engine, running until `pause`; it is killed at the end of the `with` block."""

    def __init__(self, engine: Engine, environment: dict[str, str] | None = None) -> None:
        """Start an engine.

        Args:
            engine: to start.
            environment: of the process that it shall equal; None for ours.
        """
        self.engine = engine
        self.records: list[dict[str, Any]] = []
        """All records with a step so far."""
        self.stamps = [Stamp(0, 0.0)]
        """The start, then one per look that found records."""
        self._read, self._ran = 0, 0.0
        with (engine.folder / "log.txt").open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(  # commands are ours
                engine.command,
                env=(dict(os.environ) if environment is None else environment) | engine.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509  # no other thread of ours runs here
            )
        self._since: float | None = time.perf_counter()

    @property
    def pid(self) -> int:
        """Id of the process that was started."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """End the process and its children."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def pause(self) -> None:
        """Suspend it."""
        if self._since is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGSTOP)
            self._ran, self._since = self._clock(), None

    def resume(self) -> None:
        """Let it continue."""
        if self._since is None:
            self._since = time.perf_counter()
            os.killpg(self._process.pid, signal.SIGCONT)

    def run_to(self, step: int, timeout: float) -> None:
        """Let it run until it has done `step` steps, then suspend it.

        Raises:
            EngineError: it died first, or did not get there in `timeout` seconds.
        """
        self._run_until(lambda: self.stamps[-1].step >= step, timeout)

    def turn(self, seconds: float, timeout: float) -> float:
        """Let it run for at least one step and `seconds` seconds; returns seconds per step.

        Raises:
            EngineError: it died, or did no step in `timeout` seconds.
        """
        before = self.stamps[-1]

        def enough() -> bool:
            now = self.stamps[-1]
            return now.step > before.step and now.clock - before.clock >= seconds

        self._run_until(enough, timeout)
        now = self.stamps[-1]
        return (now.clock - before.clock) / (now.step - before.step)

    def peak_memory(self) -> int:
        """Bytes that the largest of its processes has had in memory at most."""
        return _resident(self._largest())

    def own_environment(self) -> dict[str, str]:
        """Its environment as it is now, with what it set for itself when it started itself anew."""
        text = (Path("/proc") / str(self._largest()) / "environ").read_bytes().decode()
        return dict(item.split("=", 1) for item in text.split("\0") if "=" in item)

    def _run_until(self, enough: Any, timeout: float) -> None:  # noqa: ANN401  # a predicate
        self.resume()
        deadline = time.perf_counter() + timeout
        while not enough():
            if not self._look():
                if self._process.poll() is not None and not self._look():
                    raise EngineError(f"{self.engine.name}: ended with code {self._process.returncode}\n{self._tail()}")
                if time.perf_counter() > deadline:
                    raise EngineError(f"{self.engine.name}: not there after {timeout:.0f} s\n{self._tail()}")
                time.sleep(_POLL)
        self.pause()

    def _look(self) -> bool:
        """Read new complete records; whether there were any."""
        try:
            if self.engine.records.stat().st_size == self._read:
                return False
        except FileNotFoundError:
            return False
        clock = self._clock()
        with self.engine.records.open("rb") as file:
            file.seek(self._read)
            lines, found, _ = file.read().rpartition(b"\n")
        self._read += len(lines) + len(found)
        records = [json.loads(line) for line in lines.splitlines()]
        steps = [record for record in records if record.get("kind", "step") == "step"]
        if steps:
            self.records += steps
            self.stamps.append(Stamp(steps[-1]["step"], clock))
        return bool(steps)

    def _clock(self) -> float:
        return self._ran + (0.0 if self._since is None else time.perf_counter() - self._since)

    def _largest(self) -> int:
        """The process of the session with the most memory: the one that computes."""
        members = [
            int(path.name)
            for path in Path("/proc").iterdir()
            if path.name.isdigit() and _session(path) == self._process.pid
        ]
        return max(members, key=_resident, default=self._process.pid)

    def _tail(self) -> str:
        lines = (self.engine.folder / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-12:])


def _end_with_parent() -> None:
    """Ask Linux to kill this process when its parent ends, however that ends; suspended, it would remain forever."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _session(path: Path) -> int:
    try:
        return int((path / "stat").read_text().rpartition(")")[2].split()[3])
    except (OSError, IndexError):
        return 0


def _resident(pid: int) -> int:
    """Peak resident bytes of a process; 0 if it is gone."""
    try:
        lines = (Path("/proc") / str(pid) / "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
