"""Starts, stops and resumes families on this machine, by the command and the signal that people use at a terminal."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from tinyllama.errors import UserError
from tinyllama.files import write_atomic
from tinyllama.layout import FamilyLayout
from tinyllama.recipe import is_dumped_recipe, load_recipe
from tinyllama.train.process import read_process

if TYPE_CHECKING:
    from pathlib import Path

_OUTPUT_BYTES = 4000
"""Of a command's last output that a page shows."""
_PATIENCE = 20
"""Seconds in which a command that was told to stop ends, once its training has ended."""
_DETACHED = getattr(subprocess, "DETACHED_PROCESS", 0) | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
"""On Windows: Ctrl-C at the studio's terminal does not end the process."""


@dataclass(frozen=True)
class CommandView:
    """A command that the studio started."""

    id: int
    name: str
    """Of the family's folder."""
    command: str
    """As at a terminal."""
    exit_code: int | None
    """None while it runs; negative for a signal that ended it."""
    output: str
    """The end of what it printed."""


@dataclass
class _Command:
    root: Path
    program: list[str]
    process: subprocess.Popen[bytes]
    log: Path
    is_stopping: bool = False

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None


class Control:
    """What the studio may do to families; nothing else changes anything but copies of metrics."""

    def __init__(self, folder: Path | None) -> None:
        """Bind the folder that new families are made in; None if the studio shows single families only."""
        self._folder = folder
        self._commands: dict[int, _Command] = {}
        self._ids = count(1)
        self._guard = threading.Lock()

    def start(self, name: str, text: str) -> None:
        """Make the family of a recipe.

        Args:
            name: of the recipe.
            text: of the recipe, as `dump_recipe` writes it.

        Raises:
            UserError: there is something else of this name, a trained family for example.
            OSError: the folder cannot be written to.
        """
        if self._folder is None:
            raise UserError(
                "the studio shows single families; start it with a folder that holds families, such as runs"
            )
        layout = FamilyLayout((self._folder / name).absolute())
        with self._guard:
            if os.path.lexists(layout.root) and not _is_begun_anew(layout):
                raise UserError(f"{layout.root}: exists already; resume this family, or give the recipe another name")
            if self._is_busy(layout):
                raise UserError(f"{layout.root}: a process works on this family already")
            layout.root.mkdir(parents=True, exist_ok=True)
            write_atomic(layout.recipe, text)
            self._run(layout)

    def resume(self, layout: FamilyLayout) -> None:
        """Continue a family by the recipe in its folder.

        Raises:
            UserError: a process works on it.
            OSError: its folder cannot be written to.
        """
        for command in list(self._commands.values()):
            if command.root == layout.root and command.is_stopping:
                with suppress(subprocess.TimeoutExpired):
                    command.process.wait(_PATIENCE)
        with self._guard:
            if self._is_busy(layout):
                raise UserError(f"{layout.root}: a process works on this family already")
            self._run(layout)

    def stop(self, root: Path) -> None:
        """Ask the processes that work on a family to save and end.

        Raises:
            UserError: there is none on this machine, or it belongs to somebody else.
        """
        with self._guard:
            own = [command for command in self._commands.values() if command.root == root and command.is_running]
            pids = [command.process.pid for command in own] or _trainers(FamilyLayout(root))
            if not pids:
                raise UserError(f"{root}: no process of this machine works on this family")
            for command in own:
                command.is_stopping = True
            try:
                for pid in pids:
                    with suppress(ProcessLookupError):  # it has just ended
                        os.kill(pid, signal.SIGTERM)
            except PermissionError:
                raise UserError(f"{root}: its process belongs to another user, who can stop it") from None

    def commands(self) -> list[CommandView]:
        """The commands that this studio started, the last of each family."""
        with self._guard:
            last = {command.root: (number, command) for number, command in self._commands.items()}
        return [
            CommandView(
                id=number,
                name=command.root.name,
                command=shlex.join(["tinyllama", *command.program[4:]]),
                exit_code=command.process.poll(),
                output=_end(command.log),
            )
            for number, command in last.values()
        ]

    def root(self, number: int) -> Path:
        """The folder of the family that a command of this studio works on.

        Raises:
            UserError: it started no such command.
        """
        command = self._commands.get(number)
        if command is None:
            raise UserError(f"this studio started no command {number}; reload the page")
        return command.root

    def _is_busy(self, layout: FamilyLayout) -> bool:
        own = (command.is_running for command in self._commands.values() if command.root == layout.root)
        return any(own) or bool(_trainers(layout))

    def _run(self, layout: FamilyLayout) -> None:
        number = next(self._ids)
        log = layout.studio_log(f"{time.strftime('%Y%m%d-%H%M%S')}-{number}")
        # -P: files of the folder where the studio runs are no modules.
        program = [sys.executable, "-P", "-m", "tinyllama", "reproduce", str(layout.recipe), "--run", str(layout.root)]
        with log.open("xb") as output:
            process = subprocess.Popen(
                program, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                creationflags=_DETACHED,
            )  # fmt: skip
        self._commands[number] = _Command(layout.root, program, process, log)


def _is_begun_anew(layout: FamilyLayout) -> bool:
    """Whether a folder is that of a family of which nothing is trained, so that another recipe may take its place."""
    try:
        ours = is_dumped_recipe(layout.recipe.read_bytes())
        return ours and not any(layout.root.glob("*/process.json")) and not any(layout.root.glob("*/checkpoints"))
    except OSError:
        return False


def _trainers(layout: FamilyLayout) -> list[int]:
    """Processes of this machine that train a model of a family, whoever started them.

    Only those whose start the system tells are known not to be later processes of the same number.
    """
    if not layout.recipe.is_file():
        return []
    found = (read_process(layout.process(model)) for model in load_recipe(str(layout.recipe)).models)
    alive = (process for process in found if process is not None and process.outcome is None and process.is_alive)
    return list(dict.fromkeys(process.pid for process in alive if process.born))


def _end(log: Path) -> str:
    """The last lines of a file; nothing of one that is gone."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _OUTPUT_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
