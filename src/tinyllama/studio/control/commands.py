"""Starts, stops and resumes families on this machine, by the command and the signal that people use at a terminal."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinyllama.errors import UserError
from tinyllama.layout import FamilyLayout
from tinyllama.recipe import load_recipe
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
    program: list[str]
    process: subprocess.Popen[bytes]
    is_stopping: bool = False

    @property
    def is_running(self) -> bool:
        """Whether it runs; one that was told to stop has some seconds to end."""
        if self.is_stopping:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_PATIENCE)
        return self.process.poll() is None


class Control:
    """What the studio may do to families; nothing else changes anything but copies of metrics."""

    def __init__(self, folder: Path) -> None:
        """Bind the folder that new families and their recipes are written to."""
        self._folder = folder
        self._commands: dict[Path, _Command] = {}
        self._guard = threading.Lock()

    def start(self, name: str, text: str) -> None:
        """Write a recipe beside the other families, and make its family.

        Args:
            name: of the recipe.
            text: of the recipe, which is valid.

        Raises:
            UserError: there is a family or another recipe of this name, or the folder cannot be written to.
        """
        folder, recipe = (self._folder / name).absolute(), (self._folder / f"{name}.yaml").absolute()
        with self._guard:
            if folder.exists():
                raise UserError(f"{folder}: exists already; resume this family, or give the recipe another name")
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                with recipe.open("x", encoding="utf-8") as file:
                    file.write(text)
            except FileExistsError:
                if recipe.read_text(encoding="utf-8") != text:
                    raise UserError(
                        f"{recipe}: another recipe of this name is there; give this one another name"
                    ) from None
            folder.mkdir()
            self._run(FamilyLayout(folder), recipe)

    def resume(self, layout: FamilyLayout) -> None:
        """Continue a family by the recipe in its folder.

        Raises:
            UserError: a process works on it.
        """
        with self._guard:
            command = self._commands.get(layout.root)
            if (command is not None and command.is_running) or _trainers(layout):
                raise UserError(f"{layout.root}: a process works on this family already")
            self._run(layout, layout.recipe)

    def stop(self, root: Path) -> None:
        """Ask the processes that work on a family to save and end.

        Raises:
            UserError: there is none on this machine.
        """
        with self._guard:
            layout = FamilyLayout(root)
            command = self._commands.get(root)
            if command is not None and command.process.poll() is None:
                pids, command.is_stopping = [command.process.pid], True
            else:
                pids = _trainers(layout)
            if not pids:
                raise UserError(f"{root}: no process of this machine works on this family")
            for pid in pids:
                os.kill(pid, signal.SIGTERM)

    def commands(self) -> list[CommandView]:
        """The commands that this studio started, the last of each family."""
        with self._guard:
            return [
                CommandView(root.name, shlex.join(["tinyllama", *command.program[3:]]), command.process.poll(),
                            _end(FamilyLayout(root).studio_log))
                for root, command in self._commands.items()
            ]  # fmt: skip

    def root(self, name: str) -> Path:
        """The folder of a family that this studio started.

        Raises:
            UserError: it started none of this name.
        """
        found = next((root for root in self._commands if root.name == name), None)
        if found is None:
            raise UserError(f"this studio started no family called {name}")
        return found

    def _run(self, layout: FamilyLayout, recipe: Path) -> None:
        program = [sys.executable, "-m", "tinyllama", "reproduce", str(recipe), "--run", str(layout.root)]
        with layout.studio_log.open("wb") as log:
            process = subprocess.Popen(
                program, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                creationflags=_DETACHED,
            )  # fmt: skip
        self._commands[layout.root] = _Command(program, process)


def _trainers(layout: FamilyLayout) -> list[int]:
    """Processes of this machine that train a model of a family, whoever started them."""
    if not layout.recipe.is_file():
        return []
    found = (read_process(layout.process(model)) for model in load_recipe(str(layout.recipe)).models)
    alive = (process for process in found if process is not None and process.outcome is None and process.is_alive)
    return list(dict.fromkeys(process.pid for process in alive))


def _end(log: Path) -> str:
    """The last lines of a file."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _OUTPUT_BYTES))
        return file.read().decode(errors="replace")
