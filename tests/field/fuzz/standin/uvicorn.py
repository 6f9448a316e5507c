"""Stands in for uvicorn: gives an ASGI application the requests of stdin, and fails where a client would see a bug."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from typing import Any, NamedTuple


class Config(NamedTuple):
    """What `serve` states of its server."""

    app: Any
    log_level: str = "warning"


class Server:
    """Answers every line of stdin, and ends."""

    def __init__(self, config: Config) -> None:
        """Serve the application of a configuration."""
        self._app = config.app

    def run(self, sockets: object = None) -> None:
        """Answer the requests one after another."""
        del sockets
        asyncio.run(self._run())

    async def _run(self) -> None:
        begun, ended = asyncio.Event(), asyncio.Event()
        events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

        async def receive() -> dict[str, str]:
            if len(events) == 1:
                await ended.wait()
            return events.pop(0)

        async def send(_message: dict[str, str]) -> None:
            begun.set()

        life = asyncio.create_task(self._app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send))
        await asyncio.wait([life, asyncio.create_task(begun.wait())], return_when=asyncio.FIRST_COMPLETED)
        for line in sys.stdin:
            await self._answer(json.loads(line))
        ended.set()
        await life

    async def _answer(self, asked: dict[str, Any]) -> None:
        body = base64.b64decode(asked["body"])
        size = len(body) // asked["pieces"] + 1
        pieces = [body[start : start + size] for start in range(0, len(body) or 1, size)]
        sent: list[dict[str, Any]] = []
        done = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if pieces:
                piece = pieces.pop(0)
                return {"type": "http.request", "body": piece, "more_body": bool(pieces)}
            if not asked["leaves"]:
                await done.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        headers = [tuple(base64.b64decode(part) for part in pair) for pair in asked["headers"]]
        path = asked["path"]
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "query_string": b"",
            "method": asked["method"], "path": path, "raw_path": path.encode(errors="surrogateescape"),
            "headers": headers,
            "root_path": "", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000),
        }  # fmt: skip
        await self._app(scope, receive, send)
        done.set()
        if not asked["leaves"]:
            sys.stdout.write(f"{_check(sent)}\n")


def _check(sent: list[dict[str, Any]]) -> str:
    """The status and the first characters of an answer that a client understands.

    Raises:
        AssertionError: the status blames the server, or an error has another shape than the API's.
    """
    assert sent, "there is no answer"
    status, body = sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])
    assert status < 500, f"{status}: {body[:300]!r}"
    assert not sent[-1].get("more_body"), "the answer has no end"
    if status >= 400:
        error = json.loads(body)["error"]
        assert isinstance(error["message"], str), body[:300]
        assert {"message", "type", "param", "code"} <= set(error), body[:300]
    return f"{status} {body[:60]!r}"
