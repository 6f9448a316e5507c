"""`tinyllama watch`: follow a family's training at a terminal."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinyllama.cli.app import AsJson, app, print_json
from tinyllama.paths import expand_path

if TYPE_CHECKING:
    from tinyllama.monitor import FamilyMonitor, FamilyStatus

_SECONDS = 1.0
"""Between two looks."""


@app.command(
    short_help="Follow a family's training at a terminal.",
    epilog="Example: tinyllama watch runs/mini",
)
def watch(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", parser=expand_path, help="A family's folder, or that of one of its models: RUN/MODEL."
        ),
    ],
    *,
    once: Annotated[bool, typer.Option("--once", help="Print the state once, as without a terminal.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what each model of a family is doing, until nothing trains there; Ctrl-C ends it, and not the training."""
    from tinyllama.cli.tables import output
    from tinyllama.cli.watching.view import render
    from tinyllama.monitor import open_monitor

    monitor = open_monitor(folder)
    status = monitor.read()
    if as_json:
        print_json(status.to_json())
    elif once or not sys.stdout.isatty() or not status.is_live:
        output().print(render(status))
    else:
        _follow(monitor, status)


def _follow(monitor: FamilyMonitor, status: FamilyStatus) -> None:
    """Show the state again every second, in place."""
    from rich.console import Console
    from rich.live import Live

    from tinyllama.cli.watching.view import render

    signal.signal(signal.SIGINT, signal.default_int_handler)  # the usual way to end this: no message, exit code 0
    with suppress(KeyboardInterrupt), Live(render(status), console=Console(), auto_refresh=False) as live:
        while status.is_live:
            time.sleep(_SECONDS)
            status = monitor.read()
            live.update(render(status), refresh=True)
