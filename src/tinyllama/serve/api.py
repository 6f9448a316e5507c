"""The OpenAI API over an engine: completions, conversations, models."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from tinyllama.serve.asgi import parse_json, read_body, send_events, send_json, watch_connection
from tinyllama.serve.chat import ChatEvents, chat_completion
from tinyllama.serve.completions import CompletionEvents, Heading, completion
from tinyllama.serve.engine import EnginePool
from tinyllama.serve.generation import Job, run
from tinyllama.serve.guard import CHAT, COMPLETIONS, DESCRIPTION, HEALTH, MODELS
from tinyllama.serve.prompts import biases, encode_conversation, encode_prompts
from tinyllama.serve.refusal import Code, Refusal, invalid
from tinyllama.serve.sampling import sampling_of
from tinyllama.serve.schemas.openapi import describe
from tinyllama.serve.schemas.requests import MAX_CHOICES, ChatRequest, CompletionRequest
from tinyllama.serve.schemas.responses import Health, Model, ModelList

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from pydantic import BaseModel, JsonValue

    from tinyllama.serve.asgi import Message, Receive, Send
    from tinyllama.serve.engine import Engine, ServedModel
    from tinyllama.serve.generation import Piece
    from tinyllama.serve.guard import Limits
    from tinyllama.serve.schemas.requests import GenerationRequest


_T = TypeVar("_T")
_LOG = logging.getLogger(__name__)


class _Exchange(NamedTuple):
    """A request that was checked, and the shape of its response."""

    kind: str
    """How the response's id begins."""
    request: GenerationRequest
    model: ServedModel
    whole: Callable[[Heading, Job, Sequence[Piece], Engine], BaseModel]
    events: type[CompletionEvents | ChatEvents]
    job: Callable[[Engine], Job]


class Api:
    """The ASGI application; a `Guard` stands before it. One request uses the engine at a time, the others wait."""

    def __init__(self, models: Mapping[str, ServedModel], limits: Limits) -> None:
        """Serve models by name."""
        self._models, self._limits = models, limits
        self._pool = EnginePool(models)
        self._turn = asyncio.Lock()
        # One thread uses the engine: a request that is given up never leaves a second one behind.
        self._thread = ThreadPoolExecutor(1, "engine")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            Refusal: the request cannot be answered.
            pydantic.ValidationError: its body is not what the description states.
        """
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        match scope["path"]:
            case path if path == HEALTH:
                await send_json(send, Health())
            case path if path == DESCRIPTION:
                await send_json(send, describe(self._models, self._limits))
            case path if path == MODELS:
                await send_json(send, ModelList(data=list(map(_model, self._models.values()))))
            case path if path.startswith(MODELS):
                await send_json(send, _model(self._find(path.removeprefix(f"{MODELS}/"))))
            case path:
                body = parse_json(await read_body(receive, self._limits.body))
                if not isinstance(body, dict):
                    raise Refusal(400, Code.INVALID_JSON, "the request is not a JSON object")
                await self._generate(path, body, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Answer the server's startup and shutdown; free the engine at the latter."""
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await self._in_thread(self._pool.close)
        self._thread.shutdown()
        await send({"type": "lifespan.shutdown.complete"})

    def _find(self, name: str) -> ServedModel:
        if name not in self._models:
            text = f"the model {name!r} is not served; available: {', '.join(self._models)}"
            raise Refusal(404, Code.MODEL_NOT_FOUND, text, param="model")
        return self._models[name]

    async def _generate(self, path: str, body: dict[str, JsonValue], receive: Receive, send: Send) -> None:
        exchange = await asyncio.to_thread(self._read_request, path, body)
        async with watch_connection(receive) as gone, self._turn:
            if gone.is_set():
                return
            engine = await self._in_thread(self._pool.engine, exchange.model.name)
            job = await self._in_thread(exchange.job, engine)
            heading = Heading(f"{exchange.kind}-{secrets.token_hex(12)}", int(time.time()), exchange.model.name)
            pieces = self._pieces(run(engine, exchange.model.tokenizer, job), gone)
            if exchange.request.stream:
                events = exchange.events(heading, job, engine)
                counted = exchange.request.stream_options.include_usage
                await send_events(send, _events(events, pieces, counted=counted))
                return
            collected = [piece async for piece in pieces]
            if not gone.is_set():
                await send_json(send, await self._in_thread(exchange.whole, heading, job, collected, engine))

    def _read_request(self, path: str, body: dict[str, JsonValue]) -> _Exchange:
        """Check all of a request that can be checked without the engine."""
        if path == CHAT:
            chat = ChatRequest.model_validate(body)
            model = self._find(chat.model)
            if not model.chats:
                text = f"{model.name} is a base model without a chat template; use {COMPLETIONS}"
                raise Refusal(400, Code.UNSUPPORTED, text, param="model")
            top = (chat.top_logprobs or 0) if chat.logprobs else None
            of_chat = partial(self._job, chat, model, top=top)
            return _Exchange(
                "chatcmpl", chat, model, chat_completion, ChatEvents,
                lambda engine: of_chat([encode_conversation(chat.messages, model, engine)]),
            )  # fmt: skip
        asked = CompletionRequest.model_validate(body)
        model = self._find(asked.model)
        if asked.best_of not in {None, asked.n}:
            raise invalid("best_of", f"is {asked.best_of}, but only the value of n, {asked.n}, is supported")
        job = self._job(asked, model, encode_prompts(asked.prompt, model), top=asked.logprobs, echo=asked.echo)
        return _Exchange("cmpl", asked, model, completion, CompletionEvents, lambda _engine: job)

    def _job(
        self,
        request: GenerationRequest,
        model: ServedModel,
        prompts: Sequence[Sequence[int]],
        *,
        top: int | None,
        echo: bool = False,
    ) -> Job:
        limit, wanted = self._limits.max_tokens, request.wanted_tokens
        if wanted is not None and wanted > limit:
            raise invalid("max_tokens", f"is {wanted}, but this server allows at most {limit}")
        if len(prompts) * request.n > MAX_CHOICES:
            raise invalid("n", f"{len(prompts)} prompts and n {request.n} are more than {MAX_CHOICES} answers")
        return Job(
            prompts=prompts,
            choices=request.n,
            max_tokens=limit if wanted is None else wanted,
            context=model.context,
            stops=request.stops,
            sampling=sampling_of(request, biases(request, model)),
            seed=request.seed,
            top=top,
            echo=echo,
        )

    async def _pieces(self, pieces: Iterator[Piece], gone: asyncio.Event) -> AsyncIterator[Piece]:
        """Pieces from the engine's thread, until the answer ends or the client has gone."""
        while not gone.is_set():
            piece = await self._in_thread(next, pieces, None)
            if piece is None:
                return
            yield piece

    async def _in_thread(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Call a function in the engine's thread.

        Raises:
            Refusal: the engine failed.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        except (MemoryError, OSError, RuntimeError) as error:
            _LOG.exception("the engine failed")
            raise Refusal(500, Code.FAILED, f"the engine failed: {error}") from error


async def _events(
    events: CompletionEvents | ChatEvents, pieces: AsyncIterator[Piece], *, counted: bool
) -> AsyncIterator[BaseModel]:
    seen = []
    async for piece in pieces:
        seen.append(piece)
        for event in events.of(piece):
            yield event
    if counted:
        yield events.usage(seen)


def _model(model: ServedModel) -> Model:
    return Model(id=model.name, created=model.created)
