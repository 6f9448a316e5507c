"""An engine of a few lines, which spells the alphabet, and requests to the API over it without a network."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tinyllama.serve.api import Api
from tinyllama.serve.engine import ServedModel
from tinyllama.serve.guard import Guard, Limits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from tinyllama.serve.engine import Engine
    from tinyllama.tokenizer.base import Library

BOS, EOS, FIRST = 1, 2, 3
VOCABULARY = FIRST + 256
CONTEXT = 16
LIMITS = Limits(max_tokens=10, requests=2, body=2000)
TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'assistant' %}{{ raise_exception('no assistant') }}{% endif %}"
    "{{ message.content }}{% if message.content == 'divide' %}{{ 1 // 0 }}{% endif %}{% endfor %}"
)


class ByteTokenizer:
    """An id for each byte."""

    model_file = Path("bytes")
    library: Library = "tokenizers"
    adds_bos = True
    bos_id, eos_id, vocab_size, sha256 = BOS, EOS, VOCABULARY, ""

    def __init__(self, chat_template: str | None = None) -> None:
        self.chat_template = chat_template
        self.special_tokens = {"bos_token": f"<{BOS}>", "eos_token": f"<{EOS}>"}

    def limit_threads(self, count: int) -> None:
        pass

    def has_piece(self, text: str) -> bool:
        return len(text.encode()) == 1

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [[FIRST + byte for byte in text.encode()] for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(token - FIRST for token in ids if token >= FIRST).decode(errors="replace")

    def encode_prompt(self, text: str) -> list[int]:
        return [BOS, *self.encode([text])[0]]


class Alphabet:
    """Continues with the next byte, and ends after `z`. It cannot look inside prompts."""

    name = "alphabet"
    ends = frozenset({EOS})

    def __init__(self) -> None:
        self.closed = False

    def next_logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        assert len(ids) <= CONTEXT
        logits = np.zeros(VOCABULARY, np.float32)
        last = ids[-1] - FIRST
        following = EOS if last == ord("z") else FIRST + ((last + 1) % 256 if last >= 0 else ord("a"))
        logits[following] = 9.0
        return logits

    def piece(self, token: int, *, special: bool = False) -> bytes:
        if token < FIRST:
            return f"<{token}>".encode() if special else b""
        return bytes([token - FIRST])

    def encode_special(self, text: str) -> list[int]:
        return ByteTokenizer().encode([text])[0]

    def close(self) -> None:
        self.closed = True


class ScoringAlphabet(Alphabet):
    """One that looks inside prompts, in batches of two."""

    def prompt_logits(self, ids: Sequence[int], start: int) -> Iterator[NDArray[np.float32]]:
        rows = [self.next_logits(ids[: i + 1]) for i in range(start, len(ids))]
        yield from (np.stack(rows[i : i + 2]) for i in range(0, len(rows), 2))


class Failing(Alphabet):
    """One that fails at its second token."""

    def next_logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        if len(ids) > 2:
            raise RuntimeError("out of memory")
        return super().next_logits(ids)


def model_of(name: str, engine: type[Engine], template: str | None = None) -> ServedModel:
    return ServedModel(name, CONTEXT, VOCABULARY, ByteTokenizer(template), 0, engine)


MODELS_SERVED = (
    model_of("base", ScoringAlphabet),
    model_of("chat", ScoringAlphabet, TEMPLATE),
    model_of("other", Alphabet),
    model_of("failing", Failing),
)


def stand_in(limits: Limits = LIMITS, models: Sequence[ServedModel] = MODELS_SERVED) -> Guard:
    """A server of models; `other` has an engine that does not score prompts."""
    return Guard(Api({model.name: model for model in models}, limits), limits)


class Reply(NamedTuple):
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401  # whatever the test expects
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The events of a stream, which must end as the API says."""
        lines = self.body.decode().split("\n\n")
        assert all(line.startswith("data: ") for line in lines[:-1])
        *events, done = [line.removeprefix("data: ") for line in lines[:-1]]
        assert (done, lines[-1]) == ("[DONE]", "")
        return [json.loads(event) for event in events]

    def error(self) -> tuple[int, str, str | None, str]:
        """Status, code, parameter and message of a refusal in the API's shape."""
        assert set(self.json) == {"error"}
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return self.status, error["code"], error["param"], error["message"]


async def request(
    app: Guard, path: str, body: bytes = b"", method: str = "POST", leave: asyncio.Event | None = None, **headers: str
) -> Reply:
    """Send a request, its body in two pieces; the client leaves at an event, or never."""
    pieces = [{"body": body[9:]}, {"body": body[:9], "more_body": True}]
    sent: list[Any] = []

    async def receive() -> Any:  # noqa: ANN401  # ASGI
        if pieces:
            return {"type": "http.request", **pieces.pop()}
        await (leave or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:  # noqa: ANN401  # ASGI
        sent.append(message)

    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await app({"type": "http", "path": path, "method": method, "headers": pairs}, receive, send)
    if not sent:
        return Reply(0, {}, b"")
    fields = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    assert not sent[-1].get("more_body")
    return Reply(sent[0]["status"], fields, b"".join(message["body"] for message in sent[1:]))


def ask(path: str, body: object = b"", method: str = "POST", limits: Limits = LIMITS, **headers: str) -> Reply:
    """Ask a new server."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return asyncio.run(request(stand_in(limits), path, data, method, **headers))
