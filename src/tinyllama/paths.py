"""Paths as people write them: `~`, environment variables, and names that are not UTF-8."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tinyllama.errors import UserError

_VARIABLE = re.compile(r"\$(?:\w+|\{[^}]*\})")


def expand_path(path: str | Path, root: Path = Path()) -> Path:
    """A path with `~`, `~user`, `$NAME` and `${NAME}` replaced, unless a file of the name as it is spelled exists.

    Args:
        path: as someone wrote it; names of users and variables that do not exist stay as they are.
        root: folder that it starts from if it is relative.
    """
    spelled = root / path
    return spelled if os.path.lexists(spelled) else root / expand_text(str(path))


def expand_text(path: str) -> str:
    """A path, glob or URL with `~`, `~user`, `$NAME` and `${NAME}` replaced where they exist."""
    return os.path.expanduser(os.path.expandvars(path))  # noqa: PTH111  # Path.expanduser refuses unknown users


def unset_variables(path: str) -> list[str]:
    """The environment variables that a path names and that are not set, as they are spelled: `$DATA`."""
    return [name for name in _VARIABLE.findall(path) if os.path.expandvars(name) == name]


def printable_path(path: str | Path) -> str:
    r"""A path as text that can be encoded: bytes of a file's name that are not UTF-8 are spelled `\udce9`."""
    return str(path).encode(errors="backslashreplace").decode()


def refuse_not_utf8(folder: Path) -> None:
    """Reject a folder to write to whose path is not UTF-8: the libraries that write tables and models need it.

    Raises:
        UserError: the absolute path is not UTF-8.
    """
    if (name := printable_path(folder.absolute())) != str(folder.absolute()):
        raise UserError(f"{name}: the path is not UTF-8; give a folder whose path is")
