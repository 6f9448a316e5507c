"""`tinyllama` as a person runs it, without the seconds in which a new process imports what commands need."""

from __future__ import annotations

import atexit
import os
import subprocess
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from tests.field.commands import Commands

_SECONDS = 300


@cache
def command_server() -> Commands:
    """The server of this process of pytest; it ends with it."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(Commands())


def run(*arguments: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, in a folder and with environment variables that differ from those here."""
    done = command_server().run(*arguments, cwd=cwd or Path.cwd(), env={**os.environ, **environment}, seconds=_SECONDS)
    return subprocess.CompletedProcess(arguments, done.code, done.out, done.err)
