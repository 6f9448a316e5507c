"""Task scores during training: a separate process evaluates copies of checkpoints.

A copy is a folder of hard links: it is created instantly, needs no space, and survives the pruning of old checkpoints.
The process runs at the lowest priority on one core, so training never waits for it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tinyllama.layout import family_of_run

if TYPE_CHECKING:
    from tinyllama.recipe import Evaluation
    from tinyllama.train.metrics import Record

COPIES = "evaluating"
_OF_RANKS = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
"""Variables by which torchrun tells a process its place."""


class BackgroundEvaluation:
    """Receive a run's records; evaluate the first checkpoint after every `tasks_every` tokens."""

    def __init__(self, run: Path, evaluation: Evaluation, every: int) -> None:
        self._run, self._evaluation, self._every = run, evaluation, every
        self._due = False
        self._tokens: int | None = None
        self._taken = set(_steps(run / "checkpoints"))

    def log(self, record: Record) -> None:
        """Update the position of the run, and copy a new checkpoint if one is due."""
        if record.kind != "step":
            return
        self._take()
        before, self._tokens = self._tokens, record.tokens
        self._due = self._due or (before is not None and before // self._every != record.tokens // self._every)

    def flush(self) -> None:
        """Do nothing: no records are buffered."""

    def close(self) -> None:
        """Evaluate the run's last checkpoint, regardless of its token count."""
        self._due = True
        self._take()

    def _take(self) -> None:
        """Copy the newest checkpoint if one is due, and start the process that evaluates it."""
        new = [step for step in _steps(self._run / "checkpoints") if step not in self._taken]
        if not self._due or not new:
            return
        self._due, step = False, max(new)
        self._taken.update(new)
        copy = self._run / COPIES / f"step-{step}"
        copy.mkdir(parents=True, exist_ok=True)
        for file in sorted(
            (self._run / "checkpoints" / copy.name).iterdir(), key=lambda path: path.name == "state.json"
        ):
            if not (copy / file.name).exists():
                os.link(file, copy / file.name)
        self._start()

    def _start(self) -> None:
        """Start the process that evaluates the copies. Training does not wait for it; it may outlive training."""
        evaluation, log = self._evaluation, str(self._run / f"{COPIES}.log")
        program = [
            sys.executable,
            "-m",
            "tinyllama.family.background",
            str(self._run),
            evaluation.data,
            *evaluation.tasks,
        ]
        streams = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        # Training has the cards, and its rank is not this process's.
        environment = {name: value for name, value in os.environ.items() if name not in _OF_RANKS}
        os.posix_spawn(sys.executable, program, environment, file_actions=streams, setsid=True)


def evaluate_copies(run: Path, data: Path, tasks: list[str]) -> None:
    """Evaluate and remove every copy of a run, oldest first; wait for any other process that does the same.

    Records go to `<family>/evaluation/<model>/by_tokens/<tokens>/`.
    """
    (run / COPIES).mkdir(exist_ok=True)
    with (run / COPIES / ".lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for step in _steps(run / COPIES):
            from tinyllama.checkpoint.format import read_state
            from tinyllama.family.evaluate_model import EvaluateRequest, evaluate_model  # deferred: heavy

            copy = run / COPIES / f"step-{step}"
            tokens = read_state(copy).tokens
            folder = family_of_run(run).scores_by_tokens(run.name) / str(tokens)
            evaluate_model(copy, EvaluateRequest(tasks=tasks, data=data, device="cpu"), folder)
            shutil.rmtree(copy)


def _steps(folder: Path) -> list[int]:
    from tinyllama.checkpoint.format import steps_saved  # deferred: keeps waiting processes small

    return steps_saved(folder)


if __name__ == "__main__":
    os.nice(19)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    evaluate_copies(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
