"""Locks between processes. Each ends with its process, however that ends."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDERS_OPEN = hasattr(os, "O_DIRECTORY")
"""Whether this system opens folders, to lock and to flush them; Windows does not."""
_READERS = 8
"""The most shared locks on one folder where the system locks no folders."""
_PAUSE = 0.05
"""Seconds between two attempts."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let errors name a path by its final name; a write to a full disk names none."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def locked_file(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a file, which is made for it, as is its folder.

    Raises:
        BlockingIOError: another process, or this one, holds the lock, and `wait` is false.
        OSError: the file cannot be written, or its file system has no locks; names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=-1 if wait else 0)
    try:
        with naming(path):
            lock.acquire()
    except Timeout:
        raise BlockingIOError from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def one_at_a_time(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Let one process at a time run the block, by a lock on a file; `waiting` is called if this one has to wait.

    Where the file cannot be written, nothing else can, and no lock is held; so too on a file system without locks.
    """
    with ExitStack() as held:
        try:
            held.enter_context(locked_file(path, wait=False))
        except BlockingIOError:
            waiting()
            held.enter_context(locked_file(path))
        except OSError:
            pass
        yield


@contextmanager
def locked_folder(folder: Path, *, shared: bool = False, wait: bool = False) -> Iterator[None]:
    """Hold a lock on a folder.

    A file system without locks, or without locks of this kind (NFS has no exclusive ones on folders), locks nothing.
    Windows has none on folders: there, locks on files of the temporary folder take their place, on one machine.

    Args:
        folder: exists.
        shared: a lock that several may hold at once, none of them exclusively.
        wait: wait for processes that hold another lock.

    Raises:
        BlockingIOError: another process, or this one, holds a lock that excludes this one.
    """
    lock = FolderLock(folder, shared=shared, wait=wait)
    try:
        yield
    finally:
        lock.release()


class FolderLock:
    """A lock on a folder, until it is released or nothing refers to it; see `locked_folder`."""

    def __init__(self, folder: Path, *, shared: bool = False, wait: bool = False) -> None:
        self._ends: list[Callable[[], object]] = []
        if FOLDERS_OPEN:
            self._lock_folder(folder, shared=shared, wait=wait)
            return
        files = _files_of(folder)
        while not self._lock_files(files, shared=shared):
            if not wait:
                raise BlockingIOError
            time.sleep(_PAUSE)

    def _lock_folder(self, folder: Path, *, shared: bool, wait: bool) -> None:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self._ends.append(partial(os.close, descriptor))
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise
        except OSError:
            self.release()

    def _lock_files(self, files: list[Path], *, shared: bool) -> bool:
        """Lock one of the files, or, exclusively, all of them; whether that was possible."""
        for file in files:
            lock = FileLock(file, timeout=0, thread_local=False)
            with suppress(Timeout):
                lock.acquire()
            if lock.is_locked:
                self._ends.append(lock.release)
                if shared:
                    return True
            elif not shared:
                self.release()
                return False
        return not shared

    def release(self) -> None:
        """End the lock."""
        while self._ends:
            self._ends.pop()()

    def __del__(self) -> None:
        self.release()

    def __getstate__(self) -> dict[str, list[Callable[[], object]]]:
        """What another process gets: it holds no lock."""
        return {"_ends": []}


def _files_of(folder: Path) -> list[Path]:
    """The files that stand for a folder where the system locks no folders."""
    real = os.path.normcase(folder.resolve(strict=True))
    locks = Path(tempfile.gettempdir()) / "tinyllama-locks"
    locks.mkdir(exist_ok=True)
    name = hashlib.sha256(os.fsencode(real)).hexdigest()
    return [locks / f"{name}.{reader}" for reader in range(_READERS)]
