"""Data sets of the Hugging Face hub: which files hold a split, at which revision, with which content.

Files are read at the revision of their first download. A lock file in the cache states that revision and the SHA-256
of every file, and of the tasks' files made from them; all are required from then on. Only Parquet files are read as
splits: of a data set in another form, the hub itself writes them to a branch. The library `datasets` is not used, since
it downloads all splits of a data set to read one, and retries for minutes where a network is half dead.
"""

from __future__ import annotations

import re
from fnmatch import fnmatch
from typing import TYPE_CHECKING

import yaml
from pydantic import Field, ValidationError

from tinyllama.errors import EvaluationError, ModelError
from tinyllama.files import sha256_file
from tinyllama.hub import access_hint, cached_dataset_file, dataset_files, fetch_dataset_file, probe
from tinyllama.locks import locked_file
from tinyllama.packages import cache_folder
from tinyllama.record_files import FileRecord, read_record, write_record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_CONVERTED = "refs/convert/parquet"
"""The branch with the hub's own conversion: <config>/<split>/<number>.parquet."""
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*$", re.DOTALL | re.MULTILINE)


class UnavailableError(EvaluationError):
    """The hub cannot give a data set; says why, without a remedy."""


class LockedSet(FileRecord):
    """One configuration of a data set, or one file of it, at one revision."""

    revision: str
    splits: dict[str, list[str]]
    """Split → its files in the repository; a single file is a split of its own name."""
    sha256: dict[str, str] = Field(default={})
    """Of each file that was fetched."""


class _Lock(FileRecord):
    format: int = 1
    sets: dict[str, LockedSet] = Field(default={})
    rows: dict[str, dict[str, str]] = Field(default={})
    """Task → its files made from the sets, with their SHA-256; a lock file of an earlier version has none."""


class _DataFiles(FileRecord):
    split: str = "train"
    path: str | list[str]


class _Config(FileRecord):
    config_name: str = "default"
    data_files: str | list[str | _DataFiles] = Field(default=[])
    default: bool = False


class _Card(FileRecord):
    """What the head of a data set's README.md says about its files."""

    configs: list[_Config] = Field(default=[])


def hub_cache() -> Path:
    """Folder of what was fetched from the hub for tasks."""
    return cache_folder() / "evaluation"


def lock_file() -> Path:
    """The file that fixes revisions and contents."""
    return hub_cache() / "lock.json"


def locked_set(repository: str, config: str | None) -> LockedSet | None:
    """What the lock file says about a data set; None before its first fetch.

    Raises:
        EvaluationError: the lock file cannot be read.
    """
    return _read_lock().sets.get(_name(repository, config))


def locked_rows(task: str) -> dict[str, str] | None:
    """The files made for a task, with the SHA-256 that each must have; None where the lock file states none.

    Raises:
        EvaluationError: the lock file cannot be read.
    """
    return _read_lock().rows.get(task)


def lock_rows(task: str, sha256: dict[str, str]) -> None:
    """Require these hashes of the files made for a task from now on."""
    with locked_file(hub_cache() / ".lock"):
        lock = _read_lock()
        write_record(lock_file(), lock.model_copy(update={"rows": lock.rows | {task: sha256}}))


class HubSets:
    """Fetches data sets; a hub that was silent once is not asked again."""

    def __init__(self) -> None:
        self._answers = False
        self._silence: str | None = None

    def fetch(self, repository: str, config: str | None, splits: Sequence[str] = ()) -> dict[str, list[Path]]:
        """The files of some splits of a data set, from the cache or the hub.

        Args:
            repository: `OWNER/NAME`.
            config: its configuration; None for the only one or the default; or the path of a single file.
            splits: names; all if empty.

        Raises:
            UnavailableError: the hub is silent or refuses, or has no such split as Parquet.
            EvaluationError: a file differs from the one in the lock file, or the lock file cannot be read.
        """
        name = _name(repository, config)
        known = _read_lock().sets.get(name) or self._find(repository, config)
        if absent := [split for split in splits or known.splits or ("any",) if split not in known.splits]:
            raise UnavailableError(f"{name} has no Parquet files of the split {absent[0]}")
        chosen = {split: known.splits[split] for split in splits or known.splits}
        local = {file: self._file(repository, known.revision, file) for files in chosen.values() for file in files}
        _require_hashes(name, known, {file: sha256_file(path) for file, path in local.items()})
        return {split: [local[file] for file in files] for split, files in chosen.items()}

    def _find(self, repository: str, config: str | None) -> LockedSet:
        """The newest revision of a data set, and the files of its splits."""
        self._ask(repository)
        try:
            revision, files = dataset_files(repository, "main")
            if config in files:
                return LockedSet(revision=revision, splits={config: [config]})
            if "README.md" in files:
                text = self._file(repository, revision, "README.md").read_text(encoding="utf-8")
                if splits := _described(text, files, config):
                    return LockedSet(revision=revision, splits=splits)
            revision, files = dataset_files(repository, _CONVERTED)
        except ModelError as error:
            raise _refused(repository, error) from error
        return LockedSet(revision=revision, splits=_converted(files, config))

    def _file(self, repository: str, revision: str, file: str) -> Path:
        cache = hub_cache() / "hub"
        if path := cached_dataset_file(repository, file, revision, cache):
            return path
        self._ask(repository)
        try:
            return fetch_dataset_file(repository, file, revision, cache)
        except ModelError as error:
            raise _refused(repository, error) from error

    def _ask(self, repository: str) -> None:
        """Make sure that the hub answers, before its client is used, which is patient."""
        if self._answers:
            return
        if self._silence is None:
            answer = probe(repository, "dataset")
            if not answer.is_silent:
                self._answers = True
                return
            self._silence = answer.reason
        raise UnavailableError(self._silence)


def _refused(repository: str, error: ModelError) -> UnavailableError:
    return UnavailableError(f"the hub refuses it: {error}. {access_hint(repository)}")


def _name(repository: str, config: str | None) -> str:
    return repository if config is None else f"{repository} ({config})"


def _read_lock() -> _Lock:
    try:
        return read_record(_Lock, lock_file(), EvaluationError, "delete it to fetch the newest data")
    except FileNotFoundError:
        return _Lock()


def _require_hashes(name: str, known: LockedSet, found: dict[str, str]) -> None:
    """Compare files with the lock file, and add those that are new to it."""
    for file, sha256 in found.items():
        if known.sha256.get(file, sha256) != sha256:
            raise EvaluationError(
                f"{name}: {file} has the SHA-256 {sha256}, but {lock_file()} requires {known.sha256[file]}; delete the "
                f"folder {hub_cache()} to fetch the newest data"
            )
    if found.keys() <= known.sha256.keys():
        return
    with locked_file(hub_cache() / ".lock"):
        lock = _read_lock()
        entry = lock.sets.get(name, known)
        entry = entry.model_copy(update={"sha256": found | entry.sha256})
        write_record(lock_file(), lock.model_copy(update={"sets": lock.sets | {name: entry}}))


def _described(readme: str, files: Sequence[str], config: str | None) -> dict[str, list[str]]:
    """Split → files, as the head of README.md describes a configuration; empty unless all are Parquet."""
    head = _FRONT_MATTER.match(readme)
    try:
        configs = _Card.model_validate(yaml.safe_load(head[1]) if head else {}).configs
    except (yaml.YAMLError, ValidationError):
        return {}
    named = {item.config_name: item for item in configs}
    default = [item for item in configs if item.default or item.config_name == "default" or len(configs) == 1]
    chosen = default[0] if config is None and default else named.get(config or "")
    if chosen is None:
        return {}
    given = [chosen.data_files] if isinstance(chosen.data_files, str) else chosen.data_files
    splits: dict[str, list[str]] = {}
    for item in (entry if isinstance(entry, _DataFiles) else _DataFiles(path=entry) for entry in given):
        patterns = [item.path] if isinstance(item.path, str) else item.path
        splits.setdefault(item.split, []).extend(
            file for file in sorted(files) if any(fnmatch(file, pattern) for pattern in patterns)
        )
    return splits if all(file.endswith(".parquet") for split in splits.values() for file in split) else {}


def _converted(files: Sequence[str], config: str | None) -> dict[str, list[str]]:
    """Split → files on the branch of the hub's conversion."""
    parts = [(*file.split("/"), file) for file in sorted(files) if file.endswith(".parquet") and file.count("/") == 2]
    configs = {folder for folder, *_ in parts}
    wanted = config or ("default" if "default" in configs else next(iter(configs)) if len(configs) == 1 else None)
    splits: dict[str, list[str]] = {}
    for folder, split, _, file in parts:
        if folder == wanted:
            splits.setdefault(split, []).append(file)
    return splits
