"""Local files by path, folder or glob. Links are followed; what is neither a file nor a folder is reported."""

from __future__ import annotations

import os
import stat
from glob import escape, glob
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, NamedTuple

from tinyllama.paths import expand_text

if TYPE_CHECKING:
    from collections.abc import Iterator

_EVERYWHERE = "**"
_KINDS = {
    stat.S_IFIFO: "a pipe, which cannot be read twice: write it to a file",
    stat.S_IFSOCK: "a socket, not a file",
    stat.S_IFCHR: "a device, not a file",
    stat.S_IFBLK: "a device, not a file",
}


class LocalFiles(NamedTuple):
    """What a pattern matches."""

    files: set[Path]
    unusable: dict[Path, str]
    """Links to nothing, folders that cannot be read, pipes and devices → why they are not read."""


def find_local(pattern: str, root: Path) -> LocalFiles:
    """The files that a path, folder or glob names; hidden files and folders count only where the pattern names them.

    A folder stands for every file below it. Links to folders are followed, except for those to a folder that holds
    the link, and, below a folder that is named as a whole, those to another place in it: its files are found there.

    Args:
        pattern: a path or a glob, with `~` and `$NAME`. A name that exists counts as it is spelled, brackets and all.
        root: folder that relative patterns start from.
    """
    found = LocalFiles(set(), {})
    for path in _matches(pattern, root, found):
        if not path.is_dir():
            _add(path, found)
            continue
        for folder in _folders(path, found, inside=False):
            for entry in _entries(folder, found):
                if not entry.is_dir():
                    _add(entry, found)
    return found


def _matches(pattern: str, root: Path, found: LocalFiles) -> list[Path]:
    for spelled in dict.fromkeys([pattern, expand_text(pattern)]):
        if os.path.lexists(root / spelled):
            return [root / spelled]
        # A name with brackets is no class of characters: first as far as it exists, then everywhere.
        for tried in dict.fromkeys([spelled, _escaped_start(spelled, root), spelled.replace("[", "[[]")]):
            if matches := list(_expand(root, PurePath(tried).parts, found)):
                return [path for path in matches if path.is_dir()] if spelled.endswith("/") else matches
    return []


def _escaped_start(pattern: str, root: Path) -> str:
    """The pattern in which the folders that exist by their spelling are not read as globs."""
    parts, there = list(PurePath(pattern).parts), root
    for index, part in enumerate(parts):
        there /= part
        if not there.is_dir():
            break
        parts[index] = escape(part)
    return str(PurePath(*parts)) if parts else pattern


def _expand(base: Path, parts: tuple[str, ...], found: LocalFiles) -> Iterator[Path]:
    """The matches of a glob's parts below a folder; `**` walks by itself, since glob's own follows loops."""
    start = parts.index(_EVERYWHERE) if _EVERYWHERE in parts else len(parts)
    heads = [base]
    if start:
        matches = glob(str(PurePath(*parts[:start])), root_dir=base)  # noqa: PTH207  # Path.glob matches hidden files too
        heads = [base / match for match in matches]
    if start == len(parts):
        yield from heads
        return
    rest = parts[start + 1 :]
    for head in heads:
        for folder in _folders(head, found, inside=True) if head.is_dir() else ():
            yield from _expand(folder, rest, found) if rest else [folder]


def _folders(top: Path, found: LocalFiles, *, inside: bool) -> Iterator[Path]:
    """A folder and the folders below it that are not hidden, without loops.

    Args:
        top: the folder to begin with.
        found: receives folders that cannot be read, and links to a folder above `top`.
        inside: follow links to other folders below `top`, too.
    """
    real_top = top.resolve()
    pending: list[tuple[Path, tuple[Path, ...]]] = [(top, (real_top,))]
    while pending:
        folder, reals = pending.pop()
        yield folder
        for entry in _entries(folder, found):
            if not entry.is_dir():
                continue
            real = entry.resolve() if entry.is_symlink() else reals[-1] / entry.name
            if real in reals or reals[-1].is_relative_to(real):
                if real != real_top and real_top.is_relative_to(real):
                    found.unusable[entry] = f"a link to a folder that holds it: {real}"
            elif inside or not entry.is_symlink() or not real.is_relative_to(real_top):
                pending.append((entry, (*reals, real)))


def _entries(folder: Path, found: LocalFiles) -> list[Path]:
    """What is in a folder and not hidden."""
    try:
        return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        found.unusable[folder] = f"the folder cannot be read: {error.strerror}"
        return []


def _add(path: Path, found: LocalFiles) -> None:
    if path.is_file():
        found.files.add(path)
        return
    try:
        kind = _KINDS.get(stat.S_IFMT(path.stat().st_mode), "not a file")
    except OSError as error:
        kind = f"a link to {path.readlink()}: {error.strerror}" if path.is_symlink() else str(error.strerror)
    found.unusable[path] = kind
