"""The tasks' files, from a folder of the user's or from the Hugging Face hub.

What the hub gives is written as the same files that a user would put into a folder by hand.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING
from zipfile import BadZipFile, ZipFile

from tinyllama.evaluation.hub_sets import HubSets, UnavailableError, hub_cache, locked_set
from tinyllama.evaluation.scores import MissingTask
from tinyllama.evaluation.task_data import TASK_DATA
from tinyllama.files import explain, new_directory, write_atomic
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
    tasks: Iterable[str], data: Path, say: Callable[[str], None] = lambda _: None
) -> dict[str, Path | MissingTask]:
    """Task → folder with its files, fetched if neither the user's folder nor the cache has them; or why not.

    Args:
        tasks: names; those that lm-eval alone defines are left to it.
        data: the user's folder.
        say: called with a message if something was fetched.

    Raises:
        EvaluationError: a fetched file differs from the lock file.
    """
    hub, found, fetched = HubSets(), dict[str, "Path | MissingTask"](), list[str]()
    for name in (name for name in tasks if name in TASK_DATA):
        task, found[name] = TASK_DATA[name], folder_of(name, data)
        if found[name] == data or _is_fetched(task):
            continue
        try:
            _fetch(task, hub)
            fetched.append(name)
        except UnavailableError as error:
            found[name] = MissingTask(f"no file in {data}, and none from the hub: {error}; {_REMEDY}")
        except OSError as error:
            found[name] = MissingTask(f"what the hub gives cannot be written: {explain(error) or error}")
    if fetched:
        say(f"evaluation data fetched from the hub: {listing(fetched)}")
    return found


def _is_fetched(task: TaskData) -> bool:
    """Whether a task's files were made from what the lock file fixes."""
    names = [task.examples] if task.examples else []
    there = task.question_files(rows_folder()) and all((rows_folder() / name).is_file() for name in names)
    return bool(there) and locked_set(*task.hub) is not None


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
