"""Folders at paths that people name: what tinyllama did not write there is neither deleted nor overwritten.

Every command that writes to such a folder claims it first. A kind of folder knows the names of its entries, and the
signs by which a folder that an earlier version wrote is recognized. In a folder that is not recognized, an entry of
such a name is somebody else's, and the folder is refused; all other entries are left alone.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from tinyllama.errors import UserError
from tinyllama.files import new_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from tinyllama.errors import TinyLlamaError


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder that a command writes."""

    name: str
    """For messages, with its article: `a tokenizer`."""
    entries: tuple[str, ...]
    """Patterns of the names of files and folders that are written in it."""
    is_ours: Callable[[Path], bool]
    """Whether a folder was written by this or an earlier version, from what it holds."""
    alone: bool = False
    """Whether a folder is refused that holds anything else before the first write."""

    def writes(self, name: str) -> bool:
        """Whether an entry of this name is one that is written here."""
        return any(fnmatchcase(name, pattern) for pattern in self.entries)


def claim(folder: Path, kind: FolderKind, error: type[TinyLlamaError] = UserError) -> None:
    """Check that nothing is lost if a command writes its files to a folder.

    Args:
        folder: need not exist.
        kind: what the command writes.
        error: raised for a folder that cannot be written to.

    Raises:
        error: the path is no folder or not in UTF-8, or the folder holds somebody else's file of a name that the
            command writes.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise error(f"{folder}: the path is not in UTF-8, as libraries need; give another folder") from None
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise error(f"{folder}: is no folder; name another path for {kind.name}, or remove the file")
    if not kind.is_ours(folder):
        for entry in sorted(folder.iterdir()):
            if kind.alone:
                raise error(f"{folder}: exists and is not {kind.name}; give another folder, or move it away")
            if kind.writes(entry.name):
                raise error(_refusal(entry, kind))


def _refusal(entry: Path, kind: FolderKind) -> str:
    return (
        f"{entry}: tinyllama did not write this, and would overwrite it with {kind.name}; give another folder, or move "
        "it away"
    )


def holds_only(names: Iterable[str], folder: Path) -> bool:
    """Whether a folder holds files of some names, and nothing else."""
    found = {entry.name for entry in folder.iterdir()}
    return bool(found) and found <= set(names)


def claim_file(path: Path, name: str, is_ours: Callable[[Path], bool], error: type[TinyLlamaError] = UserError) -> None:
    """Check that a command which writes one file does not overwrite somebody else's.

    Args:
        path: need not exist.
        name: what the command writes, with its article, for the message.
        is_ours: whether an existing file was written by this or an earlier version.
        error: raised for a file that is not ours.

    Raises:
        error: a file that is not ours is there.
    """
    if os.path.lexists(path) and not (path.is_file() and is_ours(path)):
        raise error(
            f"{path}: tinyllama did not write this, and would overwrite it with {name}; name another path, or move it "
            "away"
        )


@contextmanager
def replaced_folder(folder: Path, kind: FolderKind, error: type[TinyLlamaError] = UserError) -> Iterator[Path]:
    """Yield a temporary folder that replaces one of ours when the block succeeds; entries that are not ours stay.

    Such folders hold files only, so that a folder in the place of one of them is somebody else's.

    Raises:
        error: see `claim`.
    """
    claim(folder, kind, error)
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.is_dir() and not entry.is_symlink() and kind.writes(entry.name):
            raise error(_refusal(entry, kind))
    with new_directory(folder, foreign=lambda name: not kind.writes(name)) as beside:
        yield beside
