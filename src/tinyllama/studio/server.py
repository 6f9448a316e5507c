"""Run the studio: listen, say where, answer until it is stopped."""

from __future__ import annotations

import secrets
import socket
from typing import TYPE_CHECKING, NamedTuple

from tinyllama.errors import UserError
from tinyllama.installation import install_hint
from tinyllama.layout import FamilyLayout
from tinyllama.serve.listening import address, is_own, listen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import FrameType

_SECONDS = 1
"""For which open pages keep the studio from ending."""


class StudioOptions(NamedTuple):
    """Where the studio listens, and what its page may do."""

    host: str = "127.0.0.1"
    """Address to listen on; other machines reach it if it is not of loopback, and then need a token."""
    port: int = 0
    """0 chooses a free one."""
    control: bool = False
    """Whether the page may start, stop and resume families; new ones are made in the first folder that holds some."""
    device: str = "cpu"
    """What computes the playground's answers."""


_DEFAULT = StudioOptions()


def run_studio(folders: Sequence[Path], announce: Callable[[str], None], options: StudioOptions = _DEFAULT) -> None:
    """Serve the studio's page until the process is stopped.

    Args:
        folders: families' folders, or folders that hold some.
        announce: receives the page's address, with its token if it has one.
        options: where to listen, and what the page may do.

    Raises:
        UserError: the extra is not installed, a folder is not there, or the address is in use.
    """
    try:
        import uvicorn

        from tinyllama.studio.app import Studio
    except ImportError as error:
        raise UserError(f"the studio needs an extra: {install_hint('studio')} ({error})") from None
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: is no folder; name the folder of a family, or one that holds some")
    from tinyllama.studio.control.commands import Control
    from tinyllama.studio.families import StudioFamilies
    from tinyllama.studio.guard import StudioGuard, access_of
    from tinyllama.studio.playground import Playground

    access = access_of(options.host, secrets.token_urlsafe(24), control=options.control)
    places = (folder for folder in folders if not FamilyLayout(folder).recipe.is_file())
    allowed = Control(next(places, None)) if options.control else None
    studio = Studio(StudioFamilies(folders), Playground(options.device), allowed)
    with listen(options.host, options.port) as listening:
        name, number = listening.getsockname()[:2]
        shown = name if is_own(options.host) else socket.gethostname()
        announce(f"{address(shown, number)}{access.path}")
        guarded = StudioGuard(studio.app(), access)
        settings = uvicorn.Config(guarded, log_level="warning", timeout_graceful_shutdown=_SECONDS)
        server = uvicorn.Server(settings)
        leave = server.handle_exit

        def end(number: int, frame: FrameType | None) -> None:
            """Let open pages go, which the server would wait for, and cut off with an error."""
            studio.end()
            leave(number, frame)

        server.handle_exit = end
        server.run(sockets=[listening])
