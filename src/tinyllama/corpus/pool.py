"""Tasks of a preparation in this process, or in several at once. Any of them may be killed at any moment."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import TYPE_CHECKING, Any

from tinyllama.corpus.encoding import open_engine
from tinyllama.corpus.tasks import Counts, finished_task, run_task
from tinyllama.errors import WorkerLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from tinyllama.corpus.documents import Task
    from tinyllama.corpus.encoding import Engine
    from tinyllama.corpus.tasks import Settings
    from tinyllama.corpus.tokenizer import TextTokenizer

_SECONDS = 0.5
"""Between two looks at how far the workers are."""

_worker: _Worker
"""What this process needs for tasks, if it is a worker."""


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_tasks(  # noqa: PLR0913, PLR0917  # what each task needs, and how
    settings: Settings,
    tasks: Sequence[Task],
    tokenizer: TextTokenizer,
    engine: Engine,
    workers: int,
    progress: Callable[[Counts], None],
) -> None:
    """Do all tasks that are not done.

    Args:
        settings: what they share.
        tasks: all of them.
        tokenizer: the family's.
        engine: used if no other process works; each worker opens its own.
        workers: processes at most; with one, or one task to do, it is this process.
        progress: told what all tasks together have done, from time to time.

    Raises:
        WorkerLostError: a worker was killed; what was finished is kept.
        CorpusError, SourceError: see `run_task`.
    """
    pending = [index for index in range(len(tasks)) if finished_task(settings.work, index) is None]
    pending.sort(key=lambda index: -tasks[index].text_bytes)  # so that no large one is left to the end, alone
    workers = min(workers, len(pending))
    board = get_context("spawn").RawArray("q", len(Counts._fields) * len(tasks))
    _post_finished(board, settings.work, set(range(len(tasks))) - set(pending))
    if workers <= 1:
        for index in pending:
            run_task(settings, tasks[index], index, tokenizer, engine, _Poster(board, index, progress))
        return
    start = (settings, tasks, type(tokenizer), tokenizer.model_file, board)
    with _pool(workers, start) as pool:
        ready = [pool.submit(_stand_by) for _ in range(workers)]
        definition = engine.definition  # made while they start
        runs = [pool.submit(_run, index, definition) for index in pending]
        _follow([*ready, *runs], lambda: progress(_total(board)))


@contextmanager
def _pool(workers: int, arguments: tuple[Any, ...]) -> Iterator[ProcessPoolExecutor]:
    context = get_context("spawn")  # a fork of a process with threads may never come back
    start: Callable[..., None] = _start_worker
    with ProcessPoolExecutor(workers, context, start, arguments) as pool:
        try:
            yield pool
        except BrokenProcessPool:
            raise WorkerLostError(
                "a worker was killed (for its memory?); what was finished is kept: run the same command again, "
                "with fewer --workers if it was memory"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _follow(futures: list[Future[None]], look: Callable[[], None]) -> None:
    """Wait for all, looking on now and then; the first failure is raised at once."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=_SECONDS, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
        look()


class _Worker:
    """A tokenizer and its engine, opened once."""

    def __init__(self, settings: Settings, tasks: Sequence[Task], tokenizer: TextTokenizer, board: Any) -> None:  # noqa: ANN401  # ctypes
        tokenizer.threads = 1
        self._settings, self._tasks, self._tokenizer, self._board = settings, tasks, tokenizer, board
        self._engine: Engine | None = None

    def run(self, index: int, definition: str) -> None:
        if self._engine is None:
            self._engine = open_engine(self._tokenizer, definition)
        poster = _Poster(self._board, index, lambda _: None)
        run_task(self._settings, self._tasks[index], index, self._tokenizer, self._engine, poster)


def _start_worker(
    settings: Settings,
    tasks: Sequence[Task],
    kind: type[TextTokenizer],
    model_file: Path,
    board: Any,  # noqa: ANN401  # ctypes
) -> None:
    global _worker  # noqa: PLW0603  # a process pool passes state to its workers in no other way
    _outlive_nobody()
    os.environ["RAYON_NUM_THREADS"] = os.environ["FASTOKENS_BPE_THREADS"] = "1"
    _worker = _Worker(settings, tasks, kind(model_file), board)


def _stand_by() -> None:
    """Nothing: a worker that is asked for it starts."""


def _run(index: int, definition: str) -> None:
    _worker.run(index, definition)


def _outlive_nobody() -> None:
    """End this process as soon as the one that started it is gone; Ctrl-C is for that one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch parent").start()


class _Poster:
    """Posts a task's counts on the board that all processes share: numbers of its own, so there is nothing to lock."""

    def __init__(self, board: Any, index: int, progress: Callable[[Counts], None]) -> None:  # noqa: ANN401  # ctypes
        self._board, self._at, self._progress = board, index * len(Counts._fields), progress

    def __call__(self, counts: Counts) -> None:
        self._board[self._at : self._at + len(counts)] = list(counts)
        self._progress(_total(self._board))


def _post_finished(board: Any, work: Path, finished: Iterable[int]) -> None:  # noqa: ANN401  # ctypes
    for index in finished:
        result = finished_task(work, index)
        if result is not None:
            splits = result["splits"].values()
            counts = Counts(*(sum(split[field] for split in splits) for field in Counts._fields))
            _Poster(board, index, lambda _: None)(counts)


def _total(board: Any) -> Counts:  # noqa: ANN401  # ctypes
    width = len(Counts._fields)
    return Counts(*(sum(board[field::width]) for field in range(width)))
