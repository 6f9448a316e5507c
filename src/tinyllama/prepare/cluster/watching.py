"""Progress and errors of the jobs of a launch, read from the folder that they share."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tinyllama import errors
from tinyllama.prepare.task import Counts, finished_tasks
from tinyllama.record_files import FileRecord, read_record, write_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tinyllama.prepare.job import Preparation

_SECONDS = 2.0
"""Seconds between two listings; listing a large shared folder takes time."""


class JobError(FileRecord):
    """An error of ours that ended a job."""

    kind: str
    """Name of its class in `tinyllama.errors`."""
    text: str


class FinishedTasks:
    """Counts what tasks have done, on whatever machine."""

    def __init__(self, preparation: Preparation) -> None:
        self._preparation = preparation
        self._unseen = set(range(len(preparation.tasks)))
        self._counts = Counts(unread=sum(task.size for task in preparation.tasks))

    def look(self) -> Counts:
        """What all finished tasks have done."""
        for index in self._unseen & finished_tasks(self._preparation.settings.work):
            done = self._preparation.counts(index)
            self._counts += done._replace(unread=-done.read)
            self._unseen.remove(index)
        return self._counts


@contextmanager
def watching(preparation: Preparation, progress: Callable[[Counts], None]) -> Iterator[None]:
    """Report progress while the block waits for the jobs."""
    tasks, over = FinishedTasks(preparation), threading.Event()

    def watch() -> None:
        progress(tasks.look())
        while not over.wait(_SECONDS):
            progress(tasks.look())

    thread = threading.Thread(target=watch, name="watch tasks")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    progress(tasks.look())


def new_launch(work: Path, executor: str) -> Path:
    """A new folder for the logs of one launch of jobs; see `last_launch`."""
    folder = work / executor / f"{len(list((work / executor).glob('*'))):04d}"
    folder.mkdir(parents=True)
    return folder


def last_launch(work: Path, executor: str) -> Path:
    """The folder of the most recent launch."""
    return max((work / executor).iterdir())


@contextmanager
def recorded(logs: Path, job: str) -> Iterator[None]:
    """Record an error of ours that the block raises, for `raise_recorded`."""
    try:
        yield
    except errors.TinyLlamaError as error:
        write_record(_errors(logs) / f"{job}.json", JobError(kind=type(error).__name__, text=str(error)))
        raise


def raise_recorded(logs: Path) -> None:
    """Raise the first error of ours that ended a job of a launch, if there is one."""
    for path in sorted(_errors(logs).glob("*.json")):
        record = read_record(JobError, path, errors.WorkerLostError, "see the jobs' logs beside it")
        raise getattr(errors, record.kind)(record.text)


def _errors(logs: Path) -> Path:
    return logs / "errors"
