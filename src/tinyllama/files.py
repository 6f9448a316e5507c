"""Files that are complete or not there: written under another name, fsynced, then renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from tinyllama.locks import FOLDERS_OPEN, locked_folder, naming

Json: TypeAlias = Mapping[str, "Json"] | Sequence["Json"] | str | int | float | bool | None
"""What can be written as JSON."""
ESCAPED = "backslashreplace"
"""How what UTF-8 cannot spell, such as a byte in a file's name, is written: as JSON escapes it."""

_REMEDIES = {
    errno.ENOSPC: "free space and run the same command again",
    errno.EDQUOT: "free space, or raise the quota, and run the same command again",
    errno.EFBIG: "choose a file system that holds larger files",
    errno.EIO: "check the disk and its connection",
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "check its permissions, or choose another path",
    errno.EPERM: "check its permissions, or choose another path",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path, since a part of it is a file",
    errno.EISDIR: "name a file",
    errno.EEXIST: "remove it, or choose another path",
    errno.ENOTEMPTY: "run the same command again, when no other process writes there",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "correct the symbolic link",
    errno.ENODEV: "choose another path",
    errno.ENXIO: "choose another path",
    errno.EINVAL: "choose another path",
    errno.EOPNOTSUPP: "choose a path on another file system",
    errno.ENOSYS: "choose a path on another file system",
    errno.EXDEV: "choose a path on one file system",
    errno.EBUSY: "run the same command again, when no other process uses it",
    errno.ETXTBSY: "run the same command again, when no other process uses it",
    errno.ESTALE: "run the same command again",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs, since the machine has too many open files",
    errno.ENOMEM: "close other programs, since the machine is short of memory",
    errno.ENOLCK: "choose a path on another file system, since this one has no locks",
}
"""What to do about an error of the operating system that is no fault of this program."""
_ARROW = re.compile(r"local file '(.+?)'")
"""Where pyarrow's errors name their file."""
_OF_NO_FILE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""Errors that a user can cause even where no file is named."""


def explain(error: OSError) -> str | None:
    """What failed and what to do about it, in one line; None for an error that only a bug can cause.

    An error that names no file, such as a bad file descriptor, is a bug, unless a full disk or a limit of the machine
    causes it.
    """
    named = error.filename2 or error.filename
    if named is None and (match := _ARROW.search(error.strerror or "")):
        named = match[1]
    if (remedy := _REMEDIES.get(error.errno or 0)) is None or (named is None and error.errno not in _OF_NO_FILE):
        return None
    name = "stdout or a file being written" if named is None else os.fsdecode(named)
    reason = os.strerror(error.errno or 0)
    return f"{name}: {reason[0].lower()}{reason[1:]}; {remedy}"


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: Json) -> str:
    """The one spelling of a JSON value, for hashing: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256_json(value: Json) -> str:
    """Hex SHA-256 of a JSON value's canonical spelling."""
    return hashlib.sha256(to_bytes(canonical_json(value))).hexdigest()


def to_bytes(text: str) -> bytes:
    """UTF-8; a lone surrogate, which stands for a byte of a file name that is no UTF-8, becomes its escape in JSON."""
    return text.encode(errors=ESCAPED)


def fsync_path(path: Path) -> None:
    """Flush a file's or directory's data to the disk; Windows opens no directories, and flushes files it may write."""
    if not FOLDERS_OPEN and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if FOLDERS_OPEN else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unique_mark() -> str:
    """A name for what is being written that no other process has, on any machine that shares the folder."""
    return f"partial-{os.getpid()}-{secrets.token_hex(4)}"


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write under another name; when the block succeeds, it is fsynced and renamed to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{unique_mark()}")
    try:
        with naming(path):
            with beside.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)  # closed, since Windows renames no open file
    finally:
        with suppress(OSError):
            beside.unlink()
    fsync_path(path.parent)


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write a whole file under another name, fsync it, and rename it to `path`."""
    with new_file(path) as file:
        file.write(to_bytes(data) if isinstance(data, str) else data)


def write_json(path: Path, value: Json) -> None:
    """Write a JSON file atomically, indented for people."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def new_directory(
    path: Path,
    *,
    keep: bool = False,
    unflushed: str | None = None,
    foreign: Callable[[str], bool] = lambda _name: False,
) -> Iterator[Path]:
    """Yield a new directory beside `path`, renamed to `path` when the block succeeds and removed when it fails.

    Every file in it is fsynced before the rename. A directory at `path` stays until then. Several processes may write
    the same directory at once: each writes its own, and the last one stays.

    Args:
        path: final path of the directory.
        keep: keep a directory that another process has renamed to `path` by then, since its content is the same.
        unflushed: suffix of files that are not fsynced, which a power failure may damage; their reader has to compare
            them with a hash.
        foreign: whether an entry of the directory at `path` is somebody else's, by its name: such entries move along.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{unique_mark()}")
    with ExitStack() as held:
        if keep:
            beside.mkdir()
        else:
            with naming(path), locked_folder(path.parent, wait=True):
                _remove_abandoned(path)
                beside.mkdir()
                held.enter_context(locked_folder(beside))
        try:
            yield beside
            for entry in sorted(beside.rglob("*"), reverse=True):
                if entry.suffix != unflushed:
                    fsync_path(entry)
            fsync_path(beside)
            if keep:
                _rename_unless_there(beside, path)
            else:
                with naming(path), locked_folder(path.parent, wait=True):
                    _swap(beside, path, foreign)
            fsync_path(path.parent)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def _swap(beside: Path, path: Path, foreign: Callable[[str], bool]) -> None:
    """Rename `beside` to `path`; of a directory that was there, only entries that are foreign stay."""
    if not path.exists():
        beside.rename(path)
        return
    for entry in sorted(path.iterdir()):
        if foreign(entry.name) and not os.path.lexists(beside / entry.name):
            _copy_or_link(entry, beside / entry.name)
    replaced = path.with_name(f".{path.name}.replaced-{unique_mark()}")
    path.rename(replaced)
    beside.rename(path)
    shutil.rmtree(replaced)


def _copy_or_link(source: Path, target: Path) -> None:
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True, copy_function=link_or_copy)
    else:
        link_or_copy(source, target)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Make a hard link to a file, or a copy on a file system without them."""
    try:
        os.link(source, target, follow_symlinks=os.link not in os.supports_follow_symlinks)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _remove_abandoned(path: Path) -> None:
    """Remove what processes that were killed while they wrote `path` have left; complete what they began to replace."""
    left = [entry for entry in path.parent.iterdir() if entry.name.startswith(f".{path.name}.") and entry.is_dir()]
    for entry in left:
        if entry.name.startswith(f".{path.name}.replaced") and not path.exists():
            entry.rename(path)
        elif entry.name.startswith((f".{path.name}.partial", f".{path.name}.replaced")):
            with suppress(BlockingIOError), locked_folder(entry):
                shutil.rmtree(entry, ignore_errors=True)


def _rename_unless_there(folder: Path, path: Path) -> None:
    try:
        folder.rename(path)  # fails if a directory is there that has anything in it
    except OSError:
        if not path.is_dir():
            raise
