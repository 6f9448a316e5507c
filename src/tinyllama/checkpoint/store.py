"""Where a model's checkpoints are kept: in its folder, or under a URL of any fsspec file system.

Object stores rename nothing, so a checkpoint under a URL is complete once its manifest is there: that is written last,
and removed first. PyTorch's own writer for fsspec is not used: it lives in a private module, flushes all disks of the
machine for every object, and leaves no hashes. Instead a checkpoint is written to the local folder first, and its
files are uploaded from there; one that is read is downloaded and verified before anything in it is opened.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from tinyllama.checkpoint.format import (
    MANIFEST,
    STATE,
    Checkpoint,
    is_checkpoint_file,
    parse_manifest,
    prune,
    read_state,
    reading_lock,
    step_of,
    steps_saved,
    verify,
)
from tinyllama.checkpoint.retention import Retention
from tinyllama.checkpoint.state import CheckpointState, parse_state
from tinyllama.errors import CheckpointError, StorageError, TinyLlamaError
from tinyllama.files import new_directory
from tinyllama.installation import install_hint
from tinyllama.layout import FamilyLayout
from tinyllama.paths import expand_text
from tinyllama.recipe import is_dumped_recipe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tinyllama.recipe import Recipe
    from tinyllama.record_files import FileEntry

_COPIES = 2
"""Newest checkpoints that stay in the folder beside those under a URL, for fast reading."""


class CheckpointStore:
    """A model's folder of checkpoints."""

    def __init__(self, folder: Path) -> None:
        """Bind a folder, which need not exist yet."""
        self.folder = folder

    def begin(self, recipe: str) -> None:
        """Check that checkpoints can be written here, and write the recipe's text beside them.

        Raises:
            StorageError: they cannot.
        """

    def name(self, step: int) -> str:
        """Path or URL of the checkpoint of a step, for messages."""
        return str(self.folder / f"step-{step}")

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, in order.

        Raises:
            StorageError: the URL cannot be reached.
        """
        return steps_saved(self.folder)

    def open(self, step: int) -> Checkpoint:
        """The checkpoint of a step, verified, on a local disk.

        Raises:
            CheckpointError: it is damaged; names the file.
            StorageError: the URL cannot be reached.
        """
        return verify(self.folder / f"step-{step}")

    def newest(self, last: int | None = None) -> Iterator[Checkpoint | CheckpointError]:
        """Checkpoints up to the step `last`, newest first; in place of a damaged one, the error that names it.

        One that training beside this process deletes before it is opened is skipped, for a newer one if there is one.
        """
        tried = set[int]()
        while left := {step for step in self.steps() if last is None or step <= last} - tried:
            step = max(left)
            tried.add(step)
            try:
                yield self.open(step)
            except CheckpointError as error:
                if step in self.steps():
                    yield error

    def state(self, step: int) -> CheckpointState:
        """A checkpoint's state without its tensors, not verified.

        Raises:
            CheckpointError: it is not there or damaged.
            StorageError: the URL cannot be reached.
        """
        return read_state(self.folder / f"step-{step}")

    def upload(self, step: int) -> None:
        """Copy a checkpoint that was written to the folder to where it is kept.

        Raises:
            StorageError: the copy fails; earlier checkpoints are kept.
        """

    def prune(self, retention: Retention) -> None:
        """Delete the checkpoints that need not stay."""
        prune(self.folder, retention)

    def on_disk(self, retention: Retention) -> int:
        """The largest number of checkpoints that are in the folder at once."""
        return retention.most + 1


class RemoteCheckpointStore(CheckpointStore):
    """Checkpoints under a URL; the folder holds copies of the newest, and of those that were opened."""

    def __init__(self, folder: Path, url: str) -> None:
        """Bind a folder and a URL.

        Raises:
            StorageError: its file system is not known or not installed.
        """
        import fsspec  # slow to import, and most checkpoints are local
        from fsspec.asyn import AsyncFileSystem

        super().__init__(folder)
        self._url = url
        try:
            self._system, self._root = fsspec.url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            hint = install_hint("s3") if url.startswith("s3") else "install what it names"
            raise StorageError(f"checkpoints.url: {url}: its file system is not installed ({error}): {hint}") from error
        except ValueError as error:
            raise StorageError(f"checkpoints.url: {url}: {error}; correct the URL") from error
        # fsspec's asynchronous systems are the object stores: they have no folders, and s3fs would create a bucket.
        self._has_folders = not isinstance(self._system, AsyncFileSystem)

    def begin(self, recipe: str) -> None:
        """Write the recipe under the URL, unless a file that is not ours is there."""
        path = f"{self._root}/recipe.yaml"
        with self._explained("cannot be written"):
            self._make_folder(self._root)
            if self._system.exists(path) and not is_dumped_recipe(self._system.cat_file(path)):
                raise StorageError(
                    f"checkpoints.url: {self._url}/recipe.yaml: tinyllama did not write this, and would overwrite it; "
                    "name another URL, or move it away"
                )
            self._system.pipe_file(path, recipe.encode())

    def name(self, step: int) -> str:
        """Its URL."""
        return f"{self._url}/step-{step}"

    def steps(self) -> list[int]:
        """Steps whose manifest is under the URL."""
        return [step for step, names in self._objects().items() if MANIFEST in names]

    def open(self, step: int) -> Checkpoint:
        """The folder's copy if it is good and the same, else the checkpoint is downloaded."""
        manifest = self._read(step, MANIFEST)
        copy = self.folder / f"step-{step}"
        with suppress(OSError, CheckpointError):
            if (copy / MANIFEST).read_bytes() == manifest:
                return verify(copy)
        with new_directory(copy) as beside:
            (beside / MANIFEST).write_bytes(manifest)
            there, files = self._path(step), self._listed(step, manifest)
            with self._reading(step):
                self._system.get([f"{there}/{name}" for name in files], [str(beside / name) for name in files])
            checkpoint = verify(beside, self.name(step))
        return replace(checkpoint, folder=copy, lock=reading_lock(copy))

    def state(self, step: int) -> CheckpointState:
        """Downloads the state alone."""
        return parse_state(self._read(step, STATE), f"{self.name(step)}/{STATE}")

    def upload(self, step: int) -> None:
        """Upload a checkpoint, manifest last; what was there of that step is removed before."""
        copy, there = self.folder / f"step-{step}", self._path(step)
        manifest = (copy / MANIFEST).read_bytes()
        files = self._listed(step, manifest)
        with self._explained("cannot be written; earlier checkpoints are kept"):
            there_before = self._objects().get(step, {})
            self._remove(step, {name: size for name, size in there_before.items() if is_checkpoint_file(name)})
            self._make_folder(there)
            self._system.put([str(copy / name) for name in files], [f"{there}/{name}" for name in files])
            arrived = self._objects().get(step, {})
            for name, entry in files.items():
                if arrived.get(name) != entry.bytes:
                    raise OSError(f"{name} has {arrived.get(name)} bytes there, {entry.bytes} here")
            self._system.pipe_file(f"{there}/{MANIFEST}", manifest)

    def prune(self, retention: Retention) -> None:
        """Prunes the URL and the folder; removes what a killed upload left, too, but no step with objects of others."""
        objects = self._objects()
        complete = [step for step, names in objects.items() if MANIFEST in names]
        with self._explained("cannot be pruned"):
            for step in [*retention.prunable(complete), *(objects.keys() - complete)]:
                if all(map(is_checkpoint_file, objects[step])):
                    self._remove(step, objects[step])
        prune(self.folder, Retention(_COPIES))

    def on_disk(self, retention: Retention) -> int:  # noqa: ARG002  # the URL holds those
        """The copies, and the checkpoint that is being written."""
        return _COPIES + 1

    def _objects(self) -> dict[int, dict[str, int]]:
        """Step → name → bytes of every object under the URL, in order of steps."""
        with self._explained("cannot be listed"):
            self._system.invalidate_cache()
            found = self._system.find(self._root, detail=True)
        objects: dict[int, dict[str, int]] = {}
        for path, details in found.items():
            folder, _, name = path.removeprefix(f"{self._root}/").partition("/")
            if (step := step_of(folder)) is not None:
                objects.setdefault(step, {})[name] = int(details["size"])
        return dict(sorted(objects.items()))

    def _remove(self, step: int, names: dict[str, int]) -> None:
        """Remove the objects of a step, manifest first."""
        for name in sorted(names, key=lambda name: name != MANIFEST):
            self._system.rm_file(f"{self._path(step)}/{name}")

    def _read(self, step: int, name: str) -> bytes:
        with self._reading(step):
            data: bytes = self._system.cat_file(f"{self._path(step)}/{name}")
        return data

    def _listed(self, step: int, manifest: bytes) -> dict[str, FileEntry]:
        """Files that a manifest lists."""
        return parse_manifest(manifest, f"{self.name(step)}/{MANIFEST}").files

    def _make_folder(self, path: str) -> None:
        if self._has_folders:
            self._system.makedirs(path, exist_ok=True)

    def _path(self, step: int) -> str:
        return f"{self._root}/step-{step}"

    @contextmanager
    def _reading(self, step: int) -> Iterator[None]:
        """A missing object means a damaged checkpoint, not a storage that fails."""
        with self._explained("cannot be read"):
            try:
                yield
            except FileNotFoundError as error:
                raise CheckpointError(f"{self.name(step)}: the checkpoint is not complete there ({error})") from error

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except TinyLlamaError:
            raise
        except Exception as error:  # every file system has errors of its own
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            raise StorageError(
                f"checkpoints.url: {self._url}: {what} ({reason}); correct the URL, or the "
                "credentials of its file system"
            ) from error


def checkpoint_store(recipe: Recipe, family: Path, run: str) -> CheckpointStore:
    """Where the checkpoints of one of a family's models are kept.

    Raises:
        StorageError: the file system of `checkpoints.url` is not known or not installed.
    """
    folder, url = FamilyLayout(family).checkpoints(run), recipe.checkpoints.url
    return (
        CheckpointStore(folder)
        if url is None
        else RemoteCheckpointStore(folder, f"{expand_text(url).rstrip('/')}/{run}")
    )
