"""The guard: routes, keys, content types, limits, errors."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.serve.stand_in import LIMITS, ask, request, stand_in
from tinyllama.serve.guard import CHAT, COMPLETIONS, DESCRIPTION, HEALTH, MODELS, Guard, Limits

KEYED = Limits(max_tokens=10, requests=2, body=2000, api_key="secret")
PROMPT = {"model": "base", "prompt": "a", "max_tokens": 2}


@pytest.mark.parametrize("path", ["/", "/docs", "/v1/embeddings", "/extras/tokenize", "/v1", "/v1/completions/"])
def test_other_paths_are_not_found(path: str) -> None:
    status, code, _, message = ask(path, PROMPT).error()
    assert (status, code) == (404, "not_found")
    assert "/v1/completions" in message


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [(COMPLETIONS, "GET", "POST"), (CHAT, "OPTIONS", "POST"), (MODELS, "POST", "GET"), (HEALTH, "HEAD", "GET")],
)
def test_other_methods_are_refused_with_the_right_one(path: str, method: str, allowed: str) -> None:
    reply = ask(path, method=method)
    assert reply.error()[:2] == (405, "method_not_allowed")
    assert reply.headers["allow"] == allowed


@pytest.mark.parametrize("given", ["", "Bearer other", "secret", "Bearer secret "])
def test_a_key_is_required_where_there_is_one(given: str) -> None:
    headers = {"authorization": given} if given else {}
    assert ask(COMPLETIONS, PROMPT, limits=KEYED, **headers).error()[:2] == (401, "invalid_api_key")
    assert ask(f"{MODELS}/base", method="GET", limits=KEYED, **headers).error()[0] == 401


def test_with_the_key_or_on_open_paths_a_request_is_answered() -> None:
    assert ask(COMPLETIONS, PROMPT, limits=KEYED, authorization="Bearer secret").status == 200
    assert ask(HEALTH, method="GET", limits=KEYED).json == {"status": "ok"}
    assert ask(DESCRIPTION, method="GET", limits=KEYED).status == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx", "\xff"])
def test_what_a_web_page_may_send_unasked_is_refused(kind: str) -> None:
    assert ask(COMPLETIONS, PROMPT, content_type=kind).error()[:2] == (415, "unsupported_media_type")


def test_json_may_have_parameters_and_no_answer_admits_other_sites() -> None:
    reply = ask(COMPLETIONS, PROMPT, content_type="Application/JSON; charset=utf-8", origin="https://elsewhere")
    assert reply.status == 200
    assert not any(name.startswith("access-control") for name in reply.headers)


def test_large_requests_are_refused() -> None:
    body = b'{"model": "base", "prompt": "' + b"x" * LIMITS.body + b'"}'
    assert ask(COMPLETIONS, body).error()[:2] == (413, "request_too_large")


def test_no_more_requests_wait_than_allowed() -> None:
    async def crowd() -> tuple[list[int], int]:
        app = stand_in()
        body = b'{"model": "base", "prompt": "a"}'
        replies = await asyncio.gather(*(request(app, COMPLETIONS, body) for _ in range(3)))
        healthy = await request(app, HEALTH, method="GET")
        return sorted(reply.status for reply in replies), healthy.status

    assert asyncio.run(crowd()) == ([200, 200, 429], 200)


def test_a_failure_is_an_error_of_the_api_too(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    reply = asyncio.run(request(Guard(broken, LIMITS), COMPLETIONS))
    assert reply.error()[:2] == (500, "internal_error")
    assert "ZeroDivisionError" in caplog.text


def test_starting_and_stopping_reach_the_application() -> None:
    sent: list[str] = []
    events = [{"type": "lifespan.shutdown"}, {"type": "lifespan.startup"}]

    async def receive() -> Any:  # noqa: ANN401  # ASGI
        return events.pop()

    async def send(message: Any) -> None:  # noqa: ANN401  # ASGI
        sent.append(message["type"])

    asyncio.run(stand_in()({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_websockets_are_closed() -> None:
    sent: list[str] = []

    async def receive() -> Any:  # noqa: ANN401  # ASGI
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:  # noqa: ANN401  # ASGI
        sent.append(message["type"])

    asyncio.run(stand_in()({"type": "websocket", "path": "/"}, receive, send))
    assert sent == ["websocket.close"]
