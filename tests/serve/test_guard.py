"""The guard before an engine that answers every request with what it was asked, or with an error of its own."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from tinyllama.serve.guard import CHAT, COMPLETIONS, MODELS, Guard, Limits, ServedModel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LIMITS = Limits(max_tokens=100, requests=2, body=500)
MODEL_TABLE = {
    "base": ServedModel(context=8, count=len, chats=False),
    "chat": ServedModel(context=8, count=len, chats=True),
}
ASKED = {"model": "base", "prompt": "the"}


class Engine:
    """Echoes the request; or answers as told."""

    def __init__(self, status: int = 200, answer: object = None, wait: asyncio.Event | None = None) -> None:
        self.status, self.answer, self.wait = status, answer, wait
        self.headers: dict[bytes, bytes] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401  # ASGI
        self.headers = dict(scope["headers"])
        body = (await receive())["body"]
        if self.wait is not None:
            await self.wait.wait()
        data = body if self.answer is None else json.dumps(self.answer).encode()
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": data[:5], "more_body": True})
        await send({"type": "http.response.body", "body": data[5:]})


async def ask(
    guard: Guard, asked: object = None, path: str = COMPLETIONS, method: str = "POST", **headers: str
) -> tuple[int, Any]:
    """Status and JSON of an answer; the request's body comes in two pieces."""
    body = asked if isinstance(asked, bytes) else json.dumps(ASKED if asked is None else asked).encode()
    pieces = [{"body": body[9:]}, {"body": body[:9], "more_body": True}]
    sent: list[Any] = []

    async def receive() -> Any:  # noqa: ANN401  # ASGI
        return {"type": "http.request", **pieces.pop()}

    async def send(message: Any) -> None:  # noqa: ANN401  # ASGI
        sent.append(message)

    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await guard({"type": "http", "path": path, "method": method, "headers": pairs}, receive, send)
    return sent[0]["status"], json.loads(b"".join(message["body"] for message in sent[1:]))


def answer(asked: object = None, limits: Limits = LIMITS, engine: Engine | None = None, **rest: str) -> tuple[int, Any]:
    return asyncio.run(ask(Guard(engine or Engine(), MODEL_TABLE, limits), asked, **rest))


def error_of(status: int, told: dict[str, Any]) -> tuple[int, str]:
    """Status and message of an answer in the API's shape for errors."""
    assert set(told) == {"error"}
    assert set(told["error"]) == {"message", "type", "param", "code"}
    return status, told["error"]["message"]


def test_a_good_request_reaches_the_engine_with_a_limit_of_tokens() -> None:
    assert answer() == (200, ASKED | {"max_tokens": 100})
    assert answer(ASKED | {"max_tokens": 7, "stop": ["x"]}) == (200, ASKED | {"max_tokens": 7, "stop": ["x"]})
    assert answer(ASKED | {"prompt": ["the"]}) == (200, ASKED | {"max_tokens": 100})
    chat = {"model": "chat", "messages": []}
    assert answer(chat | {"max_completion_tokens": 9}, path=CHAT) == (200, chat | {"max_tokens": 9})
    assert answer({}, path=MODELS, method="GET")[0] == 200


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"model": "other"}, 404, "'other' is not served; available: base, chat"),
        ({"model": None}, 404, "not served"),
        ({"model": []}, 404, "not served"),
        ({"max_tokens": 101}, 400, "must be 1 to 100"),
        ({"max_tokens": 0}, 400, "must be 1 to 100"),
        ({"max_tokens": "7"}, 400, "must be 1 to 100"),
        ({"n": 2}, 400, "n is 2"),
        ({"best_of": 2}, 400, "best_of is 2"),
        ({"prompt": ["a", "b"]}, 400, "one string"),
        ({"prompt": [1, 2]}, 400, "one string"),
        ({"prompt": None}, 400, "one string"),
        ({"prompt": "x" * 8}, 400, "the prompt has 8 tokens; the model's context is 8"),
        ({"prompt": "x" * 500}, 413, "larger than 500 bytes"),
    ],
)
def test_a_bad_request_is_refused_before_the_engine(change: dict[str, object], status: int, message: str) -> None:
    engine = Engine()
    found = error_of(*answer(ASKED | change, engine=engine))
    assert found[0] == status
    assert message in found[1]
    assert engine.headers == {}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[1]"])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    status, message = error_of(*answer(body))
    assert status == 400
    assert "not valid JSON" in message or "not a JSON object" in message


@pytest.mark.parametrize(
    ("path", "method"), [("/docs", "GET"), (COMPLETIONS, "GET"), (COMPLETIONS, "OPTIONS"), ("/extras/tokenize", "POST")]
)
def test_nothing_else_of_the_engine_is_reached(path: str, method: str) -> None:
    assert error_of(*answer(path=path, method=method))[0] == 404


def test_what_the_engine_would_fail_on_is_the_clients_mistake() -> None:
    def check(asked: dict[str, Any]) -> None:
        if asked["top_p"] > 1:
            raise ValueError("top_p is too large")

    guard = Guard(Engine(), MODEL_TABLE, LIMITS, {COMPLETIONS: check})
    assert error_of(*asyncio.run(ask(guard, ASKED | {"top_p": 7}))) == (400, "top_p is too large")
    assert asyncio.run(ask(guard, ASKED | {"top_p": 1}))[0] == 200


def test_a_base_model_does_not_chat() -> None:
    status, message = error_of(*answer({"model": "base", "messages": []}, path=CHAT))
    assert (status, "without a chat template" in message) == (400, True)


def test_a_key_is_asked_for_where_there_is_one() -> None:
    limits = Limits(max_tokens=100, requests=2, body=500, api_key="secret")
    assert error_of(*answer(limits=limits))[0] == 401
    assert error_of(*answer(limits=limits, authorization="Bearer other"))[0] == 401
    assert error_of(*answer(limits=limits, authorization="secret"))[0] == 401
    assert answer(limits=limits, authorization="Bearer secret")[0] == 200


def test_the_engine_does_not_learn_which_page_asks() -> None:
    engine = Engine()
    answer(engine=engine, origin="https://elsewhere", accept="*/*")
    assert b"origin" not in engine.headers
    assert engine.headers[b"accept"] == b"*/*"
    assert int(engine.headers[b"content-length"]) == len(json.dumps(ASKED | {"max_tokens": 100}))


def test_no_more_requests_wait_than_allowed() -> None:
    async def crowd() -> list[int]:
        gate = asyncio.Event()
        guard = Guard(Engine(wait=gate), MODEL_TABLE, LIMITS)
        waiting = [asyncio.create_task(_status(ask(guard))) for _ in range(3)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        gate.set()
        return sorted([*(await asyncio.gather(*waiting)), await _status(ask(guard))])

    assert asyncio.run(crowd()) == [200, 200, 200, 429]


async def _status(answered: Awaitable[tuple[int, Any]]) -> int:
    return (await answered)[0]


@pytest.mark.parametrize(
    ("status", "told", "expected"),
    [
        (422, {"detail": [{"loc": ["body", "top_p"], "msg": "too large"}]}, (400, "top_p: too large")),
        (401, {"detail": "Invalid API key"}, (401, "Invalid API key")),
        (500, {"error": {"message": "out of memory", "type": "internal_server_error"}}, (500, "out of memory")),
        (400, "plain", (400, "plain")),
    ],
)
def test_errors_of_the_engine_come_in_the_apis_shape(status: int, told: object, expected: tuple[int, str]) -> None:
    assert error_of(*answer(engine=Engine(status, told))) == expected


def test_starting_and_stopping_is_the_engines_own() -> None:
    seen: list[str] = []

    async def engine(scope: Any, _receive: Any, _send: Any) -> None:  # noqa: ANN401  # ASGI
        seen.append(scope["type"])

    hook: Callable[..., Any] = engine
    asyncio.run(Guard(hook, MODEL_TABLE, LIMITS)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == ["lifespan"]
