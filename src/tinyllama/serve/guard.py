"""The guard before the API: routes, API keys, content types, limits, and every error in OpenAI's format."""

from __future__ import annotations

import hmac
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from tinyllama.serve.asgi import JSON, send_refusal
from tinyllama.serve.refusal import Code, Refusal, refusal_of

if TYPE_CHECKING:
    from tinyllama.serve.asgi import Application, Message, Receive, Send

COMPLETIONS, CHAT, MODELS = "/v1/completions", "/v1/chat/completions", "/v1/models"
HEALTH, DESCRIPTION = "/health", "/openapi.json"
METHODS = {COMPLETIONS: "POST", CHAT: "POST", MODELS: "GET", HEALTH: "GET", DESCRIPTION: "GET"}
_OPEN = (HEALTH, DESCRIPTION)
"""Paths that need no key: they tell nothing of a model but its name."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """Limits of a server."""

    max_tokens: int
    """Maximum number of new tokens per answer, and the default if a request has no max_tokens."""
    requests: int
    """Maximum number of requests in progress and waiting."""
    body: int
    """Maximum size of a request in bytes."""
    api_key: str | None = None
    """Key that requests must send; None accepts all requests."""


class Guard:
    """The ASGI application that forwards admissible requests to another one."""

    def __init__(self, app: Application, limits: Limits) -> None:
        """Wrap `app`, which raises Refusal or pydantic's ValidationError for a request that it refuses."""
        self._app, self._limits = app, limits
        self._requests = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle one request; pass startup and shutdown events through."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})  # before it was accepted: the client gets a 403
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        try:
            self._admit(scope)
            self._requests += 1
            try:
                await self._app(scope, receive, answer)
            finally:
                self._requests -= 1
        except Refusal as refusal:
            await answer.refuse(refusal)
        except ValidationError as error:
            await answer.refuse(refusal_of(error))
        except Exception:  # noqa: BLE001  # a client gets an answer whatever happens; the log gets the reason
            _LOG.exception("a request failed")
            await answer.refuse(Refusal(500, Code.FAILED, "the server failed; its log has the reason"))

    def _admit(self, scope: Message) -> None:
        """Reject requests on the basis of their headers, before reading the body."""
        path, method = scope["path"], scope["method"]
        expected = METHODS.get(MODELS if path.startswith(f"{MODELS}/") else path)
        if expected is None:
            raise Refusal(404, Code.NOT_FOUND, f"{path} is not served; available: {', '.join(METHODS)}")
        if method != expected:
            text = f"{path} takes {expected}, not {method}"
            raise Refusal(405, Code.METHOD, text, headers={"allow": expected})
        headers = dict(scope["headers"])
        key, given = self._limits.api_key, headers.get(b"authorization", b"")
        if path not in _OPEN and key is not None and not hmac.compare_digest(given, f"Bearer {key}".encode()):
            raise Refusal(401, Code.INVALID_KEY, "the API key is missing or wrong")
        if method != "POST":
            return
        # A web page of another origin can send forms and plain text without asking, but not JSON.
        kind = headers.get(b"content-type", JSON.encode()).decode(errors="replace")
        if kind.partition(";")[0].strip().lower() != JSON:
            raise Refusal(415, Code.MEDIA_TYPE, f"the content type is {kind!r}; send JSON as {JSON}")
        if self._requests >= self._limits.requests:
            text = "too many requests are waiting; try again later"
            raise Refusal(429, Code.BUSY, text, headers={"retry-after": "1"})


class _Answer:
    """A `send` that knows whether a response has begun, after which no error can be its status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._begun = False

    async def __call__(self, message: Message) -> None:
        self._begun = True
        await self._send(message)

    async def refuse(self, refusal: Refusal) -> None:
        if self._begun:
            await self._send({"type": "http.response.body", "body": b""})
        else:
            await send_refusal(self._send, refusal)
