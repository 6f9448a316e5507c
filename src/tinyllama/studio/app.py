"""The studio's pages and what they ask for."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from importlib.resources import files
from itertools import islice
from typing import TYPE_CHECKING

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tinyllama.errors import TinyLlamaError
from tinyllama.evaluation.record_folder import RECORD
from tinyllama.files import explain
from tinyllama.layout import average_of
from tinyllama.plan.cards import GPUS
from tinyllama.recipe import shipped_recipes
from tinyllama.report import sections
from tinyllama.report.figures import Figure
from tinyllama.report.run_data import read_results
from tinyllama.serve.asgi import EVENTS, parse_json, read_body
from tinyllama.serve.refusal import Refusal, refusal_of
from tinyllama.studio import documents, jobs, work
from tinyllama.studio.control.routes import control_routes
from tinyllama.studio.curves import Wanted
from tinyllama.studio.live import Live, event
from tinyllama.studio.playground import Playground, Question, checkpoints_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request

    from tinyllama.files import Json
    from tinyllama.studio.control.commands import Control
    from tinyllama.studio.families import StudioFamilies, StudioFamily

_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_COLORS = 64
"""Models of a family that have a color; the hues repeat after eight."""
_MOST_TOKENS = 1 << 62
_MOST_POINTS, _POINTS = 2000, 600
_MOST_ROWS = 16
_ENTRIES = 50
_TOGETHER = 2
"""Processes that compute plans and rows at once, and as many that search."""
_RECIPE_BYTES = _PROMPT_BYTES = 1 << 20
_CHECK_SECONDS, _ROWS_SECONDS, _COMPARE_SECONDS = 30.0, 60.0, 120.0


class Studio:
    """Answers requests about some families."""

    def __init__(
        self, families: StudioFamilies, playground: Playground | None = None, control: Control | None = None
    ) -> None:
        """Bind the families, what answers prompts, and what may start and stop families, if that is allowed."""
        self._families, self._live, self._control = families, Live(families), control
        self._playground = playground or Playground()
        self._files = _page_files()
        self._places, self._searches = asyncio.Semaphore(_TOGETHER), asyncio.Semaphore(_TOGETHER)

    def end(self) -> None:
        """End what open pages listen to."""
        self._live.end()

    def app(self) -> Starlette:
        """The ASGI application, without its guard."""
        family = "/api/families/{family}"
        routes = [
            Route("/", self._file),
            Route("/static/{name}", self._file),
            Route("/api/families", self._list),
            Route("/api/events", self._events),
            Route("/api/recipes/{name}", self._shipped),
            Route("/api/recipe", self._check, methods=["POST"]),
            Route(f"{family}/curves", self._curves),
            Route(f"{family}/scores", self._scores),
            Route(f"{family}/compared/{{first}}/{{second}}", self._compared),
            Route(f"{family}/corpora", self._corpora),
            Route(f"{family}/corpora/{{corpus}}/quarantined", self._quarantined),
            Route(f"{family}/corpora/{{corpus}}/document", self._document),
            Route(f"{family}/models/{{model}}/steps/{{step:int}}", self._rows),
            Route(f"{family}/search", self._search),
            Route(f"{family}/recipe", self._recipe),
            Route(f"{family}/playground", self._answer, methods=["POST"]),
        ]
        if self._control is not None:
            routes += control_routes(self._control, self._families, self._job)
        handlers = {
            TinyLlamaError: _failed, OSError: _failed, Refusal: _refused, ValidationError: _refused,
            HTTPException: _not_found,
        }  # fmt: skip
        return Starlette(routes=routes, exception_handlers=handlers, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        await run_in_threadpool(jobs.warm_up)
        try:
            yield
        finally:
            await self._playground.close()
            self._families.close()

    async def _job(
        self, request: Request, what: Callable[..., None], *arguments: object, seconds: float
    ) -> jobs.Message:
        """What a function in another process sends; it ends if the page asks something else meanwhile."""
        async with self._places:
            return await jobs.result(request.is_disconnected, what, *arguments, seconds=seconds)

    def _family(self, request: Request) -> StudioFamily:
        return self._families.get(request.path_params["family"])

    async def _file(self, request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in self._files:
            raise HTTPException(404, "there is no such file")
        kind, data = self._files[name]
        return Response(data, media_type=kind)

    async def _events(self, _request: Request) -> Response:
        return StreamingResponse(self._live.events(), media_type=EVENTS)

    async def _list(self, _request: Request) -> Response:
        summaries = await run_in_threadpool(lambda: [family.summary() for family in self._families.all()])
        data = {
            "families": [asdict(summary) for summary in summaries],
            "recipes": list(shipped_recipes()),
            "gpus": list(GPUS),
            "control": self._control is not None,
        }
        return JSONResponse(data)

    async def _curves(self, request: Request) -> Response:
        family = self._family(request)
        span = _whole(request, "from", -1, _MOST_TOKENS, -1), _whole(request, "to", 0, _MOST_TOKENS, _MOST_TOKENS)
        wanted = Wanted(
            span,
            points=_whole(request, "points", 2, _MOST_POINTS, _POINTS),
            after=_whole(request, "after", -1, _MOST_TOKENS, -1),
            width=_whole(request, "width", 0, _MOST_TOKENS, 0),
            history=_whole(request, "history", 0, _MOST_TOKENS, 0),
        )
        found = await run_in_threadpool(family.curves, wanted, request.query_params.getlist("model"))
        return JSONResponse({model: asdict(curves) for model, curves in found.items()})

    async def _scores(self, request: Request) -> Response:
        family = self._family(request)

        def scores() -> dict[str, Json]:
            run, figures = read_results(family.layout.root, family.recipe), list[Figure]()
            parts = [sections.learnt(run), sections.tasks(run, figures), sections.samples(run)]
            return {
                "html": "".join(parts),
                "figures": [_drawn(figure) for figure in figures],
                "recorded": _recorded(family),
            }

        return JSONResponse(await run_in_threadpool(scores))

    async def _compared(self, request: Request) -> Response:
        family, parameters = self._family(request), request.path_params
        names = parameters["first"], parameters["second"]
        recorded = await run_in_threadpool(_recorded, family)
        if any(name not in recorded for name in names):
            raise HTTPException(404, "there is no evaluation record of this model")
        folders = [str(family.layout.record(name)) for name in names]
        return JSONResponse(await self._job(request, work.compare_models, *folders, seconds=_COMPARE_SECONDS))

    async def _corpora(self, request: Request) -> Response:
        family = self._family(request)
        found = await run_in_threadpool(lambda: list(documents.corpora(family.layout, family.recipe)))
        return JSONResponse({"corpora": [asdict(corpus) for corpus in found]})

    async def _quarantined(self, request: Request) -> Response:
        family, query = self._family(request), request.query_params
        first = _whole(request, "first", 0, _MOST_TOKENS, 0)
        corpus, kind, text = request.path_params["corpus"], query.get("kind", ""), query.get("text", "")

        def entries() -> list[Json]:
            found = documents.quarantined(family.layout, family.recipe, corpus, kind, text)
            return [asdict(entry) for entry in islice(found, first, first + _ENTRIES + 1)]

        found = await run_in_threadpool(entries)
        return JSONResponse({"entries": found[:_ENTRIES], "more": len(found) > _ENTRIES})

    async def _document(self, request: Request) -> Response:
        root, origin = str(self._family(request).layout.root), request.query_params.get("origin", "")
        asked = root, request.path_params["corpus"], origin
        return JSONResponse(await self._job(request, work.read_document, *asked, seconds=_ROWS_SECONDS))

    async def _rows(self, request: Request) -> Response:
        family, parameters = self._family(request), request.path_params
        first = _whole(request, "first", 0, _MOST_TOKENS, 0)
        count = _whole(request, "count", 1, _MOST_ROWS, 4)
        if parameters["model"] not in family.recipe.models:
            raise HTTPException(404, "there is no such model")
        asked = str(family.layout.root), parameters["model"], parameters["step"], range(first, first + count)
        return JSONResponse(await self._job(request, work.read_rows, *asked, seconds=_ROWS_SECONDS))

    async def _search(self, request: Request) -> Response:
        root, query = str(self._family(request).layout.root), request.query_params
        text, origin = query.get("text", ""), query.get("origin", "")
        if not text and not origin:
            raise HTTPException(400, "give a text or an origin to look for")

        async def found() -> AsyncIterator[str]:
            if self._searches.locked():
                yield event("found", {"waits": True})
            try:
                async with (
                    self._searches,  # of their own, since they take minutes
                    aclosing(jobs.messages(work.search, root, text, origin)) as messages,
                ):
                    async for message in messages:
                        if message:
                            yield event("found", message)
            except TinyLlamaError as error:
                yield event("found", {"error": str(error)})

        return StreamingResponse(found(), media_type=EVENTS)

    async def _recipe(self, request: Request) -> Response:
        family = self._family(request)
        text = await run_in_threadpool(family.layout.recipe.read_text, encoding="utf-8")
        return JSONResponse({"text": text})

    async def _shipped(self, request: Request) -> Response:
        path = shipped_recipes().get(request.path_params["name"])
        if path is None:
            raise HTTPException(404, "there is no such recipe")
        return JSONResponse({"text": path.read_text(encoding="utf-8")})

    async def _check(self, request: Request) -> Response:
        value = parse_json(await read_body(request.receive, _RECIPE_BYTES))
        asked = work.RecipeQuestion.model_validate(value)
        running = str(self._families.get(asked.family).layout.recipe) if asked.family else None
        return JSONResponse(await self._job(request, work.check_recipe, asked, running, seconds=_CHECK_SECONDS))

    async def _answer(self, request: Request) -> Response:
        family = self._family(request)
        question = Question.model_validate(parse_json(await read_body(request.receive, _PROMPT_BYTES)))
        checkpoints = await run_in_threadpool(checkpoints_of, family, question.models)

        async def replies() -> AsyncIterator[str]:
            try:
                async with aclosing(self._playground.answers(question, checkpoints)) as answers:
                    async for model, reply in answers:
                        yield event("reply", {"model": model, **reply.model_dump(exclude={"number"})})
            except TinyLlamaError as error:
                yield event("failed", {"error": str(error)})

        return StreamingResponse(replies(), media_type=EVENTS)


def _recorded(family: StudioFamily) -> list[str]:
    """The models, and averages of models, whose tasks and texts were evaluated."""
    names = [name for model in family.recipe.models for name in (model, average_of(model))]
    return [name for name in names if (family.layout.record(name) / RECORD).is_file()]


def _page_files() -> dict[str, tuple[str, bytes]]:
    """The page's own files, and the report's style with a color for each model."""
    folder = files("tinyllama.studio") / "web"
    found = {}
    for file in folder.iterdir():
        if kind := _TYPES.get(file.name[file.name.rfind(".") :]):
            found[file.name] = kind, file.read_bytes()
    palette = "".join(f"--model-{number}:var(--hue-{number % 8});" for number in range(_COLORS))
    style = (files("tinyllama.report") / "style.css").read_text(encoding="utf-8")
    found["report.css"] = "text/css", f"{style}:root{{{palette}}}\n".encode()
    return found


def _drawn(figure: Figure) -> dict[str, Json]:
    """A figure of the report for the page's own charts."""
    lines: list[Json] = [
        {"name": line.name, "model": line.model, "x": list(line.x), "y": list(line.y)} for line in figure.lines
    ]
    return {"id": figure.name, "label": figure.label, "lines": lines}


def _whole(request: Request, name: str, least: int, most: int, default: int) -> int:
    """A whole number of the query."""
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        number = int(text)
    except ValueError:
        raise HTTPException(400, f"{name}: {text} is no whole number") from None
    if not least <= number <= most:
        raise HTTPException(400, f"{name}: {number} is not from {least} to {most}")
    return number


async def _failed(_request: Request, error: Exception) -> Response:
    code = getattr(error, "exit_code", 1)
    text = (explain(error) if isinstance(error, OSError) else None) or str(error)
    return JSONResponse({"error": text}, 400 if code == 2 else 500)


async def _refused(_request: Request, error: Exception) -> Response:
    refusal = refusal_of(error) if isinstance(error, ValidationError) else error
    status = refusal.status if isinstance(refusal, Refusal) else 400
    return JSONResponse({"error": str(refusal)}, status)


async def _not_found(_request: Request, error: Exception) -> Response:
    status, text = (error.status_code, error.detail) if isinstance(error, HTTPException) else (404, "")
    return JSONResponse({"error": text}, status)
