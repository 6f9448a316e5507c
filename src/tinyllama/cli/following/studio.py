"""The command `studio`: a page that shows families while they are trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinyllama.cli.app import Device, app, whole
from tinyllama.paths import expand_path


@app.command(
    short_help="Show runs, scores, data and models on a page that follows them.",
    epilog="Example: tinyllama studio runs",
)
def studio(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FOLDER]...",
            parser=expand_path,
            help="Families' folders, or folders that hold some (default: runs).",
            show_default=False,
        ),
    ] = None,
    *,
    host: Annotated[
        str, typer.Option(help="Address to listen on; on any other than loopback, the page's address has a token.")
    ] = "127.0.0.1",
    port: Annotated[int, whole("Port to listen on; 0 chooses a free port.", least=0, most=65535)] = 8321,
    control: Annotated[
        bool,
        typer.Option(
            "--control", help="Let the page start, stop and resume training on this machine; its address has a token."
        ),
    ] = False,
    device: Device = "cpu",
) -> None:
    """Serve a page on this machine: families while they are trained, their scores, what they read, and recipes.

    The playground of the page asks the models; --device is what computes their answers.

    Without --control, the page reads the folders and changes nothing in them but a copy of each model's metrics. It is
    from the extra `studio`, and opens in any browser at the address that this prints.
    """
    from tinyllama.studio.server import StudioOptions, run_studio

    run_studio(folders or [Path("runs")], typer.echo, StudioOptions(host, port, control, device))
