"""Task scores and samples during training: a separate process evaluates copies of checkpoints.

A copy is a folder of hard links: it is created instantly, needs no space, and survives the pruning of old checkpoints.
The process runs at the lowest priority on one core, so training never waits for it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tinyllama.family.progress import SECONDS_BETWEEN_LINES
from tinyllama.files import link_or_copy, new_directory
from tinyllama.layout import SAMPLES, family_of_run
from tinyllama.locks import locked_file, locked_folder
from tinyllama.paths import expand_path
from tinyllama.processors import stay_behind
from tinyllama.recipe.quantities import format_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tinyllama.evaluation.scores import TaskScore, TaskScores
    from tinyllama.recipe import Evaluation
    from tinyllama.report.samples import Samples
    from tinyllama.train.metrics import Record

COPIES = "evaluating"
_ALONE = "samples-alone-"
"""Begins the name of the file that says that a copy gets no task scores."""
_OF_RANKS = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
"""Variables by which torchrun tells a process its place."""

_DETACHED = getattr(subprocess, "DETACHED_PROCESS", 0) | getattr(subprocess, "IDLE_PRIORITY_CLASS", 0)
"""On Windows: Ctrl-C does not end the process, and others come first."""


class BackgroundEvaluation:
    """Receive a run's records; evaluate the first checkpoint after each interval of tokens, and say what was found.

    A copy gets task scores if `tasks_every` tokens have passed, and continuations of the prompts if `samples_every`
    have; a file beside a copy says that it gets continuations alone.
    """

    def __init__(self, run: Path, evaluation: Evaluation, say: Callable[[str], None]) -> None:
        self._run, self._evaluation, self._say = run, evaluation, say
        self._every = {"tasks": evaluation.tasks_every, "samples": evaluation.samples_every}
        self._due = dict[str, int]()
        """What is to be measured → the step from which on a checkpoint will do."""
        self._tokens: int | None = None
        self._taken = set(_steps(run / "checkpoints"))
        self._said, self._looked = set(_found(run)), time.monotonic()

    def log(self, record: Record) -> None:
        """Update the position of the run, and copy a new checkpoint if one is due."""
        if record.kind != "step":
            return
        self._take()
        before, self._tokens = self._tokens, record.tokens
        for what, every in self._every.items():
            if every is not None and before is not None and before // every != record.tokens // every:
                self._due.setdefault(what, record.step)
        if time.monotonic() - self._looked > SECONDS_BETWEEN_LINES:
            self._tell()

    def flush(self) -> None:
        """Do nothing: no records are buffered."""

    def close(self) -> None:
        """Evaluate the run's last checkpoint, regardless of its token count."""
        self._due = {what: 0 for what, every in self._every.items() if every is not None}
        self._take()
        self._tell()

    def _take(self) -> None:
        """Copy the newest checkpoint if one is due, and start the process that evaluates it."""
        if not self._due:
            return
        saved, first = _steps(self._run / "checkpoints"), min(self._due.values())
        new = [step for step in saved if step not in self._taken and step >= first]
        if not new:
            return
        step = max(new)
        self._taken.update(new)
        later = {what: since for what, since in self._due.items() if since > step}
        mark = self._run / COPIES / f"{_ALONE}{step}"
        if "tasks" not in self._due or "tasks" in later:
            mark.parent.mkdir(exist_ok=True)
            mark.touch()
        if not self._copy(self._run / "checkpoints" / f"step-{step}"):
            mark.unlink(missing_ok=True)
            return  # a newer one will do
        self._due = later
        self._start()

    def _copy(self, checkpoint: Path) -> bool:
        """Copy a checkpoint by hard links; False if it has been pruned since it was listed."""
        try:
            with (
                locked_folder(checkpoint, shared=True, wait=True),  # so that it is not pruned meanwhile
                new_directory(self._run / COPIES / checkpoint.name, keep=True) as copy,
            ):
                for file in checkpoint.iterdir():
                    link_or_copy(file, copy / file.name)
        except FileNotFoundError:
            return False
        return True

    def _tell(self) -> None:
        """Say what was measured since the last look."""
        self._looked = time.monotonic()
        for folder in sorted(_found(self._run) - self._said, key=lambda path: int(path.name)):
            self._said.add(folder)
            for line in found_lines(self._run.name, folder):
                self._say(line)

    def _start(self) -> None:
        """Start the process that evaluates the copies. Training does not wait for it; it may outlive training."""
        evaluation = self._evaluation
        program = [
            sys.executable,
            "-P",  # not a random.py of the folder where training was started
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

    Records and samples go to `<family>/evaluation/<model>/by_tokens/<tokens>/`, and to TensorBoard.
    """
    with locked_file(run / COPIES / ".lock"):
        for step in _steps(run / COPIES):
            from tinyllama.checkpoint.format import read_state  # deferred: heavy, as are the following
            from tinyllama.family.evaluate_model import EvaluateRequest, evaluate_model
            from tinyllama.family.samples import sample_copy
            from tinyllama.recipe import load_recipe

            copy, alone = run / COPIES / f"step-{step}", run / COPIES / f"{_ALONE}{step}"
            tokens = read_state(copy).tokens
            layout = family_of_run(run)
            recipe, folder = load_recipe(str(layout.recipe)), layout.scores_by_tokens(run.name) / str(tokens)
            if recipe.evaluation.samples_every is not None:
                sample_copy(copy, recipe, folder)
            if not alone.is_file():
                evaluate_model(copy, EvaluateRequest(tasks=tasks, data=data, device="cpu"), folder)
            if recipe.logging.tensorboard:
                # A folder of its own: TensorBoard reads no file of a folder further once it has seen a newer one.
                _to_tensorboard(layout.tensorboard(run.name) / "evaluation", folder, tokens)
            shutil.rmtree(copy)
            alone.unlink(missing_ok=True)


def found_lines(model: str, folder: Path) -> Iterator[str]:
    """What was measured of one checkpoint, in lines for a terminal.

    Args:
        model: its name.
        folder: of its record and samples, named by its tokens.
    """
    where = f"  {model} at {format_count(int(folder.name))}"
    scores, samples = _read(folder)
    if measured := scores.measured:
        yield f"{where}: {', '.join(_in_words(name, score) for name, score in measured.items())}"
    for prompt, texts in samples.items():
        yield from (f"{where}: {prompt!r} → {text!r}" for text in texts.values())


def _in_words(task: str, score: TaskScore) -> str:
    """`boolq 62.50%`, or with its metric a score that is no share."""
    return (
        f"{task} {score.shown(score.score)}%" if score.is_share else f"{task} {score.metric} {score.shown(score.score)}"
    )


def _to_tensorboard(events: Path, folder: Path, tokens: int) -> None:
    from torch.utils.tensorboard import SummaryWriter

    scores, samples = _read(folder)
    writer = SummaryWriter(str(events))
    for name, score in scores.measured.items():
        for group, value in (("score", score.score), ("right_bits", score.right_bits), ("margin", score.margin)):
            if value is not None:
                writer.add_scalar(f"{group}/{name}", value, tokens)
    for number, (prompt, texts) in enumerate(samples.items()):
        for text in texts.values():
            writer.add_text(f"samples/{number}", f"**{prompt}**{text}", tokens)
    writer.close()


def _read(folder: Path) -> tuple[TaskScores, Samples]:
    """The scores and samples in a folder; empty ones where there are none."""
    from tinyllama.evaluation.record_folder import read_record
    from tinyllama.evaluation.scores import TaskScores
    from tinyllama.report.samples import read_samples

    record = read_record(folder)
    path = folder / SAMPLES
    return record.scores if record else TaskScores({}), read_samples(path).samples if path.is_file() else {}


def _found(run: Path) -> set[Path]:
    """Folders of what was measured of a run's checkpoints."""
    folder = family_of_run(run).scores_by_tokens(run.name)
    return {path.parent for name in ("record.json", SAMPLES) for path in folder.glob(f"*/{name}")}


def _steps(folder: Path) -> list[int]:
    from tinyllama.checkpoint.format import steps_saved  # deferred: keeps waiting processes small

    return steps_saved(folder)


if __name__ == "__main__":
    stay_behind()
    evaluate_copies(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
