"""The requests of the studio that start, stop and resume families; they exist only with `--control`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tinyllama.serve.asgi import parse_json, read_body
from tinyllama.studio import work

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from tinyllama.studio.control.commands import Control
    from tinyllama.studio.families import StudioFamilies
    from tinyllama.studio.jobs import Message

_RECIPE_BYTES = 1 << 20
_SECONDS = 30.0


class RecipeToStart(BaseModel):
    """A recipe whose family is to be made."""

    text: str


def control_routes(control: Control, families: StudioFamilies, job: Callable[..., Awaitable[Message]]) -> list[Route]:
    """The routes.

    Args:
        control: does what is asked.
        families: those that can be stopped and resumed.
        job: runs a function in another process for a request; see `Studio`.
    """

    async def listed(_request: Request) -> Response:
        found = await run_in_threadpool(control.commands)
        return JSONResponse({"commands": [asdict(command) for command in found]})

    async def start(request: Request) -> Response:
        text = RecipeToStart.model_validate(parse_json(await read_body(request.receive, _RECIPE_BYTES))).text
        named = await job(request, work.recipe_to_start, text, seconds=_SECONDS)
        if not named:
            return Response(status_code=400)  # the page is gone, and starts nothing
        name = str(named["name"])
        await run_in_threadpool(control.start, name, str(named["text"]))
        return JSONResponse({"name": name})

    async def resume(request: Request) -> Response:
        family = families.get(request.path_params["family"])
        await run_in_threadpool(control.resume, family.layout)
        return JSONResponse({"name": family.layout.root.name})

    async def stop(request: Request) -> Response:
        family = families.get(request.path_params["family"])
        await run_in_threadpool(control.stop, family.layout.root)
        return JSONResponse({"name": family.layout.root.name})

    async def stop_command(request: Request) -> Response:
        root = control.root(request.path_params["number"])
        await run_in_threadpool(control.stop, root)
        return JSONResponse({"name": root.name})

    return [
        Route("/api/commands", listed),
        Route("/api/commands", start, methods=["POST"]),
        Route("/api/commands/{number:int}/stop", stop_command, methods=["POST"]),
        Route("/api/families/{family}/resume", resume, methods=["POST"]),
        Route("/api/families/{family}/stop", stop, methods=["POST"]),
    ]
