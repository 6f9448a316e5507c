"""A case: files to change in a fresh folder, and a command to run in it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass
class Case:
    """One command, and what is odd about its surroundings."""

    argv: Sequence[str]
    needs: str = "texts"
    """The part of the template that it runs in."""
    files: dict[str, bytes | None] = field(default_factory=dict)
    """Files that replace those of the template; None removes a file."""
    links: dict[str, str] = field(default_factory=dict)
    """Symbolic links that replace files, and their targets."""
    stdin: bytes = b""
    env: dict[str, str] = field(default_factory=dict)
    interrupt: tuple[int, float] | None = None
    plan_first: Sequence[str] = ()
    """Arguments of `plan` that must show a small amount of training before the command runs."""
    note: str = ""
    """What was changed, for people."""

    def place(self, folder: Path) -> None:
        """Change the files of a fresh copy of the template."""
        for name, data in self.files.items():
            path = folder / name
            _remove(path)
            if data is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        for name, target in self.links.items():
            path = folder / name
            _remove(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)

    def __str__(self) -> str:
        """The command as a shell takes it, and what was changed."""
        words = (os.fsencode(word).decode(errors="backslashreplace") for word in self.argv)
        changed = [*self.files, *(f"{name} -> {target}" for name, target in self.links.items())]
        notes = [
            self.note,
            f"changed {', '.join(changed)}" if changed else "",
            json.dumps(self.env) if self.env else "",
        ]
        return "; ".join(filter(None, [f"tinyllama {shlex.join(words)}", *notes]))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
