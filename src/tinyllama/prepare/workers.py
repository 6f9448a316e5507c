"""Runs the tasks of a preparation in this process or in several. Any of them may be killed at any moment."""

from __future__ import annotations

import os
import platform
import signal
import threading
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import active_children, get_context, parent_process
from typing import TYPE_CHECKING, Any

from tinyllama.errors import CorpusError, WorkerLostError
from tinyllama.prepare.task import Counts
from tinyllama.quality.requirements import package_versions
from tinyllama.tokenizer.bulk import open_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future
    from ctypes import Array, c_longlong

    from tinyllama.prepare.job import Preparation
    from tinyllama.tokenizer.bulk import Engine

    _Board = Array[c_longlong]

_SECONDS = 0.5
"""Seconds between two reports of progress."""

_worker: _Worker
"""State of this process, if it is a worker."""


def run_tasks(preparation: Preparation, engine: Engine, workers: int, progress: Callable[[Counts], None]) -> None:
    """Do all tasks that are not finished.

    Args:
        preparation: the preparation of the tasks.
        engine: used by this process; each worker opens its own.
        workers: largest number of processes; with one, or one task left, this process does the work.
        progress: called regularly with what all tasks together have done.

    Raises:
        WorkerLostError: a worker was killed; finished tasks are kept.
        CorpusError, SourceError: see `run_task`.
    """
    pending = preparation.pending()
    workers = min(workers, len(pending))
    board = get_context("spawn").RawArray("q", len(Counts._fields) * len(preparation.tasks))
    for index in range(len(preparation.tasks)):
        _Poster(board, index, lambda _: None)(preparation.counts(index))
    progress(_total(board))
    if workers <= 1:
        for index in pending:
            preparation.run(index, engine, _Poster(board, index, progress))
        return
    with _pool(workers, (preparation, board)) as pool:
        ready = [pool.submit(_stand_by) for _ in range(workers)]
        definition = engine.definition  # computed while they start
        runs = [pool.submit(_run, index, definition) for index in pending]
        _follow([*ready, *runs], lambda: progress(_total(board)))


@contextmanager
def _pool(workers: int, arguments: tuple[Any, ...]) -> Iterator[ProcessPoolExecutor]:
    context = get_context("spawn")  # a fork of a process with threads may deadlock
    start: Callable[..., None] = _start_worker
    with ProcessPoolExecutor(workers, context, start, arguments) as pool:
        try:
            yield pool
        except KeyboardInterrupt:
            for worker in active_children():
                worker.terminate()  # the pool waits for its workers, and tasks take minutes
            raise
        except BrokenProcessPool:
            raise WorkerLostError(
                "a worker was killed (out of memory?); finished tasks are kept: run the same command again, with fewer "
                "--workers if memory was short"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _follow(futures: list[Future[None]], look: Callable[[], None]) -> None:
    """Wait for all and report progress regularly; the first failure is raised at once."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=_SECONDS, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
        look()


def open_worker_engine(preparation: Preparation, definition: str = "") -> Engine:
    """The engine of a preparation, for a process that is one of many: it uses one core.

    Args:
        preparation: the preparation.
        definition: definition of the engine in the process that started the preparation, if it is known here.

    Raises:
        CorpusError: another engine, or another version of a package that selects documents, is installed here.
    """
    os.environ["RAYON_NUM_THREADS"] = os.environ["FASTOKENS_BPE_THREADS"] = "1"  # fastokens' settings
    preparation.settings.tokenizer.limit_threads(1)
    engine = open_engine(preparation.settings.tokenizer, definition)
    if engine.name != preparation.engine:
        raise CorpusError(
            f"{platform.node()} encodes with {engine.name}, and {preparation.engine} is used where the preparation was "
            "started; install the same packages on all machines"
        )
    here, there = package_versions(preparation.settings.corpus), preparation.settings.libraries
    if here != there:
        raise CorpusError(
            f"{platform.node()} has {_spelled(here)}, and the preparation was started with {_spelled(there)}; install "
            "the same packages on all machines"
        )
    return engine


def _spelled(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{package} {version}" for package, version in versions.items())


@dataclass
class _Worker:
    """What a worker opens once for all its tasks."""

    preparation: Preparation
    board: _Board
    engine: Engine | None = None


def _start_worker(preparation: Preparation, board: _Board) -> None:
    global _worker  # noqa: PLW0603  # a process pool passes state to its workers in no other way
    _end_with_parent()
    _worker = _Worker(preparation, board)


def _stand_by() -> None:
    """Do nothing; submitting this starts a worker."""


def _run(index: int, definition: str) -> None:
    if _worker.engine is None:
        _worker.engine = open_worker_engine(_worker.preparation, definition)
    _worker.preparation.run(index, _worker.engine, _Poster(_worker.board, index, lambda _: None))


def _end_with_parent() -> None:
    """End this process when the one that started it ends, and leave Ctrl-C to that one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch parent").start()


class _Poster:
    """Writes a task's counts to its own numbers on the board that all processes share, so without a lock."""

    def __init__(self, board: _Board, index: int, progress: Callable[[Counts], None]) -> None:
        self._board, self._at, self._progress = board, index * len(Counts._fields), progress

    def __call__(self, counts: Counts) -> None:
        self._board[self._at : self._at + len(counts)] = list(counts)
        self._progress(_total(self._board))


def _total(board: _Board) -> Counts:
    width = len(Counts._fields)
    return Counts(*(sum(board[field::width]) for field in range(width)))
