"""Task scores during training: a separate process evaluates copies of checkpoints.

A copy is a folder of hard links: it is created instantly, needs no space, and survives the pruning of old checkpoints.
The process runs at the lowest priority on one core, so training never waits for it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tinyllama.files import link_or_copy, new_directory
from tinyllama.layout import family_of_run
from tinyllama.locks import locked_file, locked_folder
from tinyllama.paths import expand_path
from tinyllama.processors import stay_behind

if TYPE_CHECKING:
    from tinyllama.recipe import Evaluation
    from tinyllama.train.metrics import Record

COPIES = "evaluating"
_OF_RANKS = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
"""Variables by which torchrun tells a process its place."""

_DETACHED = getattr(subprocess, "DETACHED_PROCESS", 0) | getattr(subprocess, "IDLE_PRIORITY_CLASS", 0)
"""On Windows: Ctrl-C does not end the process, and others come first."""


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
        checkpoint = self._run / "checkpoints" / f"step-{step}"
        with (
            new_directory(self._run / COPIES / checkpoint.name, keep=True) as copy,
            locked_folder(checkpoint, shared=True, wait=True),  # so that it is not pruned meanwhile
        ):
            for file in checkpoint.iterdir():
                link_or_copy(file, copy / file.name)
        self._start()

    def _start(self) -> None:
        """Start the process that evaluates the copies. Training does not wait for it; it may outlive training."""
        evaluation = self._evaluation
        program = [
            sys.executable,
            "-m",
            "tinyllama.family.background",
            str(self._run),
            str(expand_path(evaluation.data)),
            *evaluation.tasks,
        ]
        # Training has the cards, and its rank is not this process's.
        environment = {name: value for name, value in os.environ.items() if name not in _OF_RANKS}
        with (self._run / f"{COPIES}.log").open("ab") as log:
            process = subprocess.Popen(
                program, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                start_new_session=True, creationflags=_DETACHED,
            )  # fmt: skip
        process.returncode = 0  # so that Python does not warn of a process for which nobody waits


def evaluate_copies(run: Path, data: Path, tasks: list[str]) -> None:
    """Evaluate and remove every copy of a run, oldest first; wait for any other process that does the same.

    Records go to `<family>/evaluation/<model>/by_tokens/<tokens>/`.
    """
    with locked_file(run / COPIES / ".lock"):
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
    stay_behind()
    evaluate_copies(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
