"""Guard in front of the engine's server: checks API keys, limits requests, and returns errors in OpenAI's format.

It is an ASGI application (https://asgi.readthedocs.io) that wraps the engine's application. It changes only responses
that are errors.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

    from pydantic import JsonValue

    Message = MutableMapping[str, Any]  # an ASGI message; the keys depend on its type
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Application = Callable[[Message, Receive, Send], Awaitable[None]]
    Check = Callable[[dict[str, JsonValue]], object]

COMPLETIONS, CHAT, MODELS = "/v1/completions", "/v1/chat/completions", "/v1/models"
_INVALID = "invalid_request_error"
_ROUTES = {COMPLETIONS: "POST", CHAT: "POST", MODELS: "GET"}


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


@dataclass(frozen=True)
class ServedModel:
    """A model that accepts requests."""

    context: int
    count: Callable[[str], int]
    """Counts the tokens of a prompt."""
    chats: bool
    """Whether the model has a chat template."""


class Refusal(Exception):  # noqa: N818  # it becomes a response, not a failure
    """An error response: status and the API's error object."""

    def __init__(self, status: int, message: str, *, kind: str = _INVALID, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "type": kind, "param": None, "code": code}


class Guard:
    """The ASGI application that forwards valid requests to the engine's application."""

    def __init__(
        self,
        app: Application,
        models: Mapping[str, ServedModel],
        limits: Limits,
        checks: Mapping[str, Check] | None = None,
    ) -> None:
        """Wrap `app`, which serves these models by name.

        Args:
            app: the engine's application.
            models: models by name.
            limits: limits on requests.
            checks: validators by path; each raises ValueError for a request that the engine would fail on.
        """
        self._app, self._models, self._limits, self._checks = app, models, limits, checks or {}
        self._requests = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle one request; pass startup and shutdown events through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._admit(scope)
        except Refusal as refusal:
            await _refuse(send, refusal)
            return
        self._requests += 1
        try:
            body = self._checked(scope["path"], await self._read(receive))
            await self._app(_without_origin(scope, len(body)), _replay(body, receive), _translated(send))
        except Refusal as refusal:
            await _refuse(send, refusal)
        finally:
            self._requests -= 1

    def _admit(self, scope: Message) -> None:
        """Reject requests on the basis of their headers, before reading the body."""
        path, method = scope["path"], scope["method"]
        if _ROUTES.get(path) != method:
            raise Refusal(404, f"{method} {path} is not served; available: {', '.join(_ROUTES)}", code="not_found")
        key, given = self._limits.api_key, dict(scope["headers"]).get(b"authorization", b"")
        if key is not None and not hmac.compare_digest(given, f"Bearer {key}".encode()):
            raise Refusal(401, "the API key is missing or wrong", kind="authentication_error", code="invalid_api_key")
        if self._requests >= self._limits.requests:
            raise Refusal(429, "too many requests are waiting; try again later", kind="rate_limit_error")

    async def _read(self, receive: Receive) -> bytes:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._limits.body:
                raise Refusal(413, f"the request is larger than {self._limits.body:,} bytes", code="request_too_large")
        return body

    def _checked(self, path: str, body: bytes) -> bytes:
        """Validate a request body and return it as the engine receives it."""
        if path == MODELS:
            return body
        try:
            asked = json.loads(body)
        except ValueError as error:
            raise Refusal(400, f"the request is not valid JSON: {error}") from None
        if not isinstance(asked, dict):
            raise Refusal(400, "the request is not a JSON object")
        name = asked.get("model")
        served = self._models.get(name) if isinstance(name, str) else None
        if served is None:
            known = ", ".join(self._models)
            raise Refusal(404, f"the model {name!r} is not served; available: {known}", code="model_not_found")
        for key in ("n", "best_of"):
            if asked.get(key) not in (None, 1):
                raise Refusal(400, f"{key} is {asked[key]!r}, but must be 1: each request gets one answer")
        if path == CHAT and not served.chats:
            raise Refusal(400, f"{name} is a base model without a chat template; use {COMPLETIONS}")
        if path == COMPLETIONS:
            asked["prompt"] = _prompt(asked.get("prompt"), served)
        asked["max_tokens"] = self._max_tokens(asked)
        asked.pop("max_completion_tokens", None)
        try:
            self._checks.get(path, dict)(asked)
        except ValueError as error:
            raise Refusal(400, str(error)) from None
        return json.dumps(asked).encode()

    def _max_tokens(self, asked: dict[str, JsonValue]) -> int:
        wanted = asked.get("max_completion_tokens", asked.get("max_tokens"))
        limit = self._limits.max_tokens
        if wanted is None:
            return limit
        if not isinstance(wanted, int) or not 0 < wanted <= limit:
            raise Refusal(400, f"max_tokens is {wanted!r}, but must be 1 to {limit}")
        return wanted


def _prompt(given: JsonValue, served: ServedModel) -> str:
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if not isinstance(given, str):
        raise Refusal(400, "prompt must be one string")
    if (length := served.count(given)) >= served.context:
        text = f"the prompt has {length} tokens; the model's context is {served.context}"
        raise Refusal(400, text, code="context_length_exceeded")
    return given


def _without_origin(scope: Message, length: int) -> Message:
    """Remove the Origin header, so that the engine sends no CORS headers that admit other sites."""
    dropped = (b"origin", b"content-length")
    headers = [(name, value) for name, value in scope["headers"] if name not in dropped]
    return {**scope, "headers": [*headers, (b"content-length", str(length).encode())]}


def _replay(body: bytes, receive: Receive) -> Receive:
    """Replay the body, then forward messages of the connection."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def _translated(send: Send) -> Send:
    """A `send` that converts the engine's errors to the API's format; other responses pass through unchanged."""
    held: Message = {}
    body = bytearray()

    async def translate(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400:
            held.update(message)
        elif not held:
            await send(message)
        else:
            body.extend(message.get("body", b""))
            if not message.get("more_body", False):
                await _refuse(send, _understood(held["status"], bytes(body)))

    return translate


def _understood(status: int, body: bytes) -> Refusal:
    """The message of an engine error, either in the API's format or in FastAPI's `detail`."""
    kind = _INVALID if status < 500 else "internal_server_error"
    try:
        answer = json.loads(body)
    except ValueError:
        return Refusal(status, body.decode(errors="replace"), kind=kind)
    answer = answer if isinstance(answer, dict) else {"detail": answer}
    if isinstance(error := answer.get("error"), dict):
        return Refusal(status, str(error.get("message")), kind=error.get("type") or kind, code=error.get("code"))
    detail = answer.get("detail", answer)
    if isinstance(detail, list):
        detail = "; ".join(f"{'.'.join(map(str, entry['loc'][1:]))}: {entry['msg']}" for entry in detail)
    return Refusal(400 if status == 422 else status, str(detail), kind=kind)


async def _refuse(send: Send, refusal: Refusal) -> None:
    data = json.dumps({"error": refusal.error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": data})
