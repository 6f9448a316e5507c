"""Requests and responses of ASGI (https://asgi.readthedocs.io): bodies, JSON, server-sent events."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from tinyllama.serve.refusal import Code, Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping

    from pydantic import BaseModel, JsonValue

    Message = MutableMapping[str, Any]  # an ASGI message; the keys depend on its type
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Application = Callable[[Message, Receive, Send], Awaitable[None]]

JSON = "application/json"
EVENTS = "text/event-stream"
_LONGEST_INTEGER = 100
"""Digits; every value of the API has fewer, and longer ones overflow in conversions."""


async def read_body(receive: Receive, limit: int) -> bytes:
    """The body of a request.

    Raises:
        Refusal: it is larger than `limit` bytes.
    """
    body, more = bytearray(), True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > limit:
            raise Refusal(413, Code.TOO_LARGE, f"the request is larger than {limit:,} bytes")
    return bytes(body)


def parse_json(body: bytes) -> JsonValue:
    """The value of a JSON text. Surrogates without a partner become U+FFFD, as in corpora.

    Raises:
        Refusal: it is not JSON as RFC 8259 defines it, or nested deeper than Python recurses.
    """
    try:
        value: JsonValue = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant, parse_int=_read_integer)
        return _without_surrogates(value)
    except RecursionError:
        raise Refusal(400, Code.INVALID_JSON, "the request is not valid JSON: it is nested too deeply") from None
    except ValueError as error:
        raise Refusal(400, Code.INVALID_JSON, f"the request is not valid JSON: {error}") from None


def _read_integer(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER:
        raise ValueError(f"a number has {len(digits):,} digits")
    return int(digits)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _without_surrogates(value: JsonValue) -> JsonValue:
    match value:
        case str():
            return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list():
            return [_without_surrogates(entry) for entry in value]
        case dict():
            return {str(_without_surrogates(key)): _without_surrogates(entry) for key, entry in value.items()}
        case _:
            return value


async def send_json(send: Send, value: BaseModel | dict[str, JsonValue]) -> None:
    """Answer with JSON."""
    data = json.dumps(value).encode() if isinstance(value, dict) else value.model_dump_json(by_alias=True).encode()
    await _send(send, 200, data, {})


async def send_refusal(send: Send, refusal: Refusal) -> None:
    """Answer with an error."""
    await _send(send, refusal.status, json.dumps(refusal.body).encode(), refusal.headers)


async def _send(send: Send, status: int, data: bytes, headers: dict[str, str]) -> None:
    fields = {"content-type": JSON, "content-length": str(len(data)), **headers}
    pairs = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": data})


async def send_events(send: Send, events: AsyncIterator[BaseModel]) -> None:
    """Answer with server-sent events, and the API's `[DONE]`; an error after the first event becomes the last one."""
    begun = False
    try:
        async for event in events:
            if not begun:
                fields = [(b"content-type", EVENTS.encode()), (b"cache-control", b"no-cache")]
                await send({"type": "http.response.start", "status": 200, "headers": fields})
                begun = True
            await _send_event(send, event.model_dump_json(by_alias=True))
    except Refusal as refusal:
        if not begun:
            raise
        await _send_event(send, json.dumps(refusal.body))
    else:
        await _send_event(send, "[DONE]")
    await send({"type": "http.response.body", "body": b""})


async def _send_event(send: Send, data: str) -> None:
    await send({"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True})


@asynccontextmanager
async def watch_connection(receive: Receive) -> AsyncIterator[asyncio.Event]:
    """An event that is set when the client closes the connection, to be used after the body was read."""
    gone = asyncio.Event()

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    task = asyncio.create_task(watch())
    try:
        yield gone
    finally:
        task.cancel()
