"""Requests that clients of the OpenAI API never meant to send."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from tests.field.fuzz.case import Case
from tests.field.fuzz.template import CHAT_GGUF, CHAT_TEMPLATE, GGUF
from tests.field.fuzz.values import TEXTS, Tree, anything, damaged, mutated

if TYPE_CHECKING:
    from random import Random

    from tests.field.fuzz.template import Files

_NAME, _CHAT_NAME = "field-base-F16", "chat-F16"
_PATHS = ("/v1/completions", "/v1/completions", "/v1/completions", "/v1/chat/completions", "/v1/chat/completions")
_OTHER_PATHS = (
    "/v1/models", f"/v1/models/{_NAME}", "/v1/models/nothing", "/health", "/openapi.json", "/", "", "/v1/completions/",
    "/v1/embeddings", "/v1/models/../../x", "/v1/models/é", "/\udcff",
)  # fmt: skip
_COMPLETION: dict[str, Tree] = {"model": _NAME, "prompt": "The river", "max_tokens": 2}
_CHAT: dict[str, Tree] = {"model": _CHAT_NAME, "messages": [{"role": "user", "content": "The river"}], "max_tokens": 2}
_MORE: dict[str, Tree] = {
    "n": 2, "best_of": 1, "echo": True, "logprobs": 2, "top_logprobs": 2, "stop": [".", "\n"], "stream": True,
    "stream_options": {"include_usage": True}, "temperature": 0.5, "top_p": 0.9, "top_k": 3, "seed": 1, "user": "me",
    "logit_bias": {"3": -100}, "presence_penalty": 1, "frequency_penalty": 1, "max_completion_tokens": None,
    "suffix": "x",
    "response_format": {"type": "json_object"}, "tools": [], "repetition_penalty": 1.1, "min_p": 0.1,
}  # fmt: skip
_PROMPTS: tuple[Tree, ...] = (
    [3, 4, 5], [[3, 4], [5]], ["a", "b"], [], [[]], [""], "", [0, -1], [10**9], [True], [1.5], ["a", [3]], "a " * 40,
    "</s>",
    [3] * 40, None, {"a": 1}, "\ud83d", "\0",
)  # fmt: skip
_MESSAGES: tuple[Tree, ...] = (
    [], [{}], [{"role": "user"}], [{"role": "user", "content": None}], [{"role": 1, "content": 2}], "hello",
    [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
    [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
    [{"role": "nobody", "content": "a"}], [{"role": "assistant", "content": "\ud83d"}],
    [{"role": "assistant", "content": None, "tool_calls": []}], [{"role": "system", "content": "a"}] * 3,
)  # fmt: skip
_RAW = (
    b"", b"{", b"[" * 100_000, b'{"a":' * 50_000, b"null", b"[]", b'"a"', b"\xff\xfe", b"NaN",
    b'{"model": "x", "model": "y"}',
    b'{"max_tokens": ' + b"9" * 5000 + b"}", b"{}" * 3, b"a=b&c=d", b"\xef\xbb\xbf{}", b'{"model": Infinity}',
)  # fmt: skip
_TYPES = (b"application/json", b"application/json", b"application/json; charset=utf-8", b"text/plain", b"", b"\xff")
_TEMPLATES = (
    "{{ messages[", "{{ 1/0 }}", "{% for m in messages %}{{ m.nothing.x }}{% endfor %}", "",
    "{{ raise_exception('no') }}",
    "{% for i in range(10**9) %}a{% endfor %}", "{{ messages | tojson }}", "{{ ''.__class__.__mro__ }}",
)  # fmt: skip
REQUESTS = 12
"""Requests of a case: opening the model takes longer than they do."""


def request_case(random: Random, files: Files) -> Case:
    """`serve` with some requests, which the stand-in of uvicorn reads from stdin."""
    lines = [json.dumps(_request(random)) for _ in range(REQUESTS)]
    argv = ["serve", CHAT_GGUF, GGUF, "--port", "0", "--max-tokens", "8", "--max-bytes", "200000"]
    if random.random() < 0.1:
        argv += ["--api-key", "secret"]
    case = Case(argv, needs="exported", stdin="\n".join(lines).encode(), note=f"{REQUESTS} requests")
    if random.random() < 0.3:
        template, usual = random.choice(_TEMPLATES), CHAT_TEMPLATE.encode()
        changed = template.ljust(len(CHAT_TEMPLATE)).encode()
        case.files[CHAT_GGUF] = files.read("exported", CHAT_GGUF).replace(usual, changed)
        case.note += f", chat template {template}"
    return case


def _request(random: Random) -> dict[str, object]:
    path = random.choice(_PATHS) if random.random() < 0.85 else random.choice(_OTHER_PATHS)
    method = "POST" if path in _PATHS else "GET"
    if random.random() < 0.03:
        method = random.choice(("GET", "POST", "PUT", "OPTIONS", "HEAD", "é"))
    body = _body(random, path)
    headers = [[b"content-type", random.choice(_TYPES)]]
    if random.random() < 0.2:
        odd = random.choice(([b"authorization", b"Bearer \xff"], [b"origin", b"http://x"], [b"content-length", b"-1"]))
        headers.append(odd)
    return {
        "path": path,
        "method": method,
        "headers": [[base64.b64encode(part).decode() for part in pair] for pair in headers],
        "body": base64.b64encode(body).decode(),
        "pieces": random.choice((1, 1, 2, 5)),
        "leaves": random.random() < 0.05,
    }


def _body(random: Random, path: str) -> bytes:
    if random.random() < 0.1:
        return random.choice(_RAW)
    chat = "chat" in path
    tree: Tree = dict(_CHAT if chat else _COMPLETION)
    assert isinstance(tree, dict)
    for key in random.sample(list(_MORE), random.choice((0, 1, 2, 4))):
        tree[key] = random.choice((_MORE[key], None, anything(random)))
    if random.random() < 0.5:
        tree["messages" if chat else "prompt"] = random.choice(_MESSAGES if chat else _PROMPTS)
    if random.random() < 0.3:
        tree = mutated(random, tree)
    if random.random() < 0.05:
        tree = random.choice((tree, [tree], random.choice(TEXTS)))
    data = json.dumps(tree).encode()
    return damaged(random, data) if random.random() < 0.08 else data
