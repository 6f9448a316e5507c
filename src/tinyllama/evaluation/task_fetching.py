"""The tasks' files, from a folder of the user's or from the Hugging Face hub.

What the hub gives is written as the same files that a user would put into a folder by hand.
"""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from zipfile import BadZipFile, ZipFile

from tinyllama.evaluation.hub_sets import (
    HubSets,
    UnavailableError,
    hub_cache,
    lock_rows,
    locked_rows,
    locked_set,
)
from tinyllama.evaluation.scores import MissingTask
from tinyllama.evaluation.task_data import TASK_DATA
from tinyllama.files import explain, new_directory, sha256_file, write_atomic
from tinyllama.text import listing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from tinyllama.evaluation.task_data import TaskData

_REMEDY = "save its files there (see docs/evaluation.md), or run `tinyllama evaluate --fetch` where the hub answers"


def rows_folder() -> Path:
    """Folder of the files made from what was fetched."""
    return hub_cache() / "rows"


def folder_of(task: str, data: Path) -> Path:
    """The folder that has a task's files, or would have them: the user's, or else that of what was fetched."""
    return data if TASK_DATA[task].question_files(data) else rows_folder()


def provide(
    tasks: Iterable[str], data: Path, say: Callable[[str], None] = lambda _: None, hub: HubSets | None = None
) -> dict[str, Path | MissingTask]:
    """Task → folder with its files, fetched if neither the user's folder nor the cache has them; or why not.

    Args:
        tasks: names; those that lm-eval alone defines are left to it.
        data: the user's folder.
        say: called with a message if something was fetched.
        hub: fetches, and remembers that the hub was silent.

    Raises:
        EvaluationError: a fetched file differs from the lock file.
    """
    hub, found, fetched, changed = hub or HubSets(), dict[str, "Path | MissingTask"](), list[str](), list[str]()
    for name in (name for name in tasks if name in TASK_DATA):
        task, found[name] = TASK_DATA[name], folder_of(name, data)
        if found[name] == data:
            continue
        hashes, required = _hashes(task), locked_rows(name)
        if hashes and hashes == required:
            continue
        is_older = hashes and required is None and locked_set(*task.hub) is not None
        try:
            _fetch(task, hub)
            lock_rows(name, _hashes(task))
            (changed if hashes and required else fetched).append(name)
        except (UnavailableError, OSError) as error:
            if is_older:  # made by an earlier version, from files that are no longer there or in a cache for reading
                with suppress(OSError):
                    lock_rows(name, hashes)
            elif isinstance(error, OSError):
                found[name] = MissingTask(f"what the hub gives cannot be written: {explain(error) or error}")
            else:
                is_changed = hashes and required
                lack = f"the files of {name} in {rows_folder()} were changed" if is_changed else f"no file in {data}"
                found[name] = MissingTask(f"{lack}, and none from the hub: {error}; {_REMEDY}")
    if fetched:
        say(f"evaluation data fetched from the hub: {listing(fetched)}")
    if changed:
        say(f"evaluation data had been changed in {rows_folder()} and is made again: {listing(changed)}")
    return found


def _hashes(task: TaskData) -> dict[str, str]:
    """The files made for a task, with the SHA-256 of each; none unless all are there."""
    files = task.files(rows_folder())
    if not task.question_files(rows_folder()) or (task.examples and rows_folder() / task.examples not in files):
        return {}
    return {path.relative_to(rows_folder()).as_posix(): sha256_file(path) for path in files}


def _fetch(task: TaskData, hub: HubSets) -> None:
    """Write a task's files."""
    repository, name = task.hub
    if task.archive:
        file = hub.fetch(repository, name)[task.archive][0]
        folder = rows_folder() / task.file.partition("/")[0]
        with _readable(file), ZipFile(file) as archive, new_directory(folder) as new:
            archive.extractall(new)
        return
    if name is not None and name.endswith(".jsonl"):
        write_atomic(rows_folder() / task.file, hub.fetch(repository, name)[name][0].read_bytes())
        return
    files = {task.split: task.file} | ({"train": task.examples} if task.examples else {})
    for split, paths in hub.fetch(repository, name, list(files)).items():
        write_atomic(rows_folder() / files[split], "".join(f"{line}\n" for path in paths for line in _rows(path)))


def _rows(path: Path) -> Iterator[str]:
    """The rows of a Parquet file as lines of JSON."""
    import pyarrow.parquet as pq  # takes a while

    with _readable(path):
        for row in pq.read_table(path).to_pylist():
            yield json.dumps(row, ensure_ascii=False, default=str)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Refuse a file that is not what its name says."""
    try:
        yield
    except (ValueError, BadZipFile) as error:  # of pyarrow, too
        raise UnavailableError(f"{path.name} cannot be read ({error})") from error
