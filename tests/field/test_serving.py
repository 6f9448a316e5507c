"""What clients send to `tinyllama serve`, with llama.cpp itself: `make test-llamacpp`, which builds it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.field.conftest import RECIPE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.field.commands import Commands

pytestmark = pytest.mark.slow
pytest.importorskip("llama_cpp", reason="make test-llamacpp builds it")
pytest.importorskip("uvicorn", reason="make test-llamacpp installs it")

TEMPLATE = "{{ bos_token }}{% for message in messages %}{{ message.content }}{% endfor %}"
IDS = [1, 40, 41, 42]
"""A prompt: BOS and three bytes."""


class Server(NamedTuple):
    """A running `tinyllama serve` with one model, `chat`."""

    address: str
    log: Path

    def ask(self, path: str, body: object = None, **headers: str) -> tuple[int, str]:
        """Status and text of a response; a body makes a request a POST."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        kind = {"content-type": "application/json"} if data is not None else {}
        request = urllib.request.Request(self.address + path, data, kind | headers)  # noqa: S310  # our own address
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310  # our own address
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def complete(self, **body: object) -> dict[str, Any]:
        """The answer to a request that must succeed."""
        asked = {"model": "chat", "prompt": "The river", "temperature": 0, "max_tokens": 5} | body
        status, text = self.ask("/v1/completions", asked)
        assert status == 200, text
        answer: dict[str, Any] = json.loads(text)
        return answer

    def chat(self, content: object, **body: object) -> tuple[int, str]:
        asked = {"model": "chat", "temperature": 0, "max_tokens": 5} | body
        return self.ask("/v1/chat/completions", asked | {"messages": [{"role": "user", "content": content}]})

    def refuse(self, body: bytes, **headers: str) -> tuple[int, str]:
        """Status and code of a request that must be refused in the API's shape."""
        status, text = self.ask("/v1/completions", body, **headers)
        error = json.loads(text)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
        return status, error["code"]


@pytest.fixture(scope="module")
def model(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small trained model with a chat template, as a Hugging Face folder."""
    folder = tmp_path_factory.mktemp("serving")
    (folder / "text").mkdir()
    for number in range(24):
        lines = [f"The river number {number * 60 + line} runs to the sea of {line % 7}." for line in range(60)]
        (folder / "text" / f"{number:02}.txt").write_text("\n".join(lines), encoding="utf-8")
    (folder / "field.yaml").write_text(RECIPE, encoding="utf-8")
    commands.run("train", "field.yaml", cwd=folder).succeeded()
    commands.run("export", "field.yaml", cwd=folder).succeeded()
    chat = (folder / "runs/field/exports/base").rename(folder / "chat")
    (chat / "chat_template.jinja").write_text(TEMPLATE)
    return chat


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    log = model.parent / "serve.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tinyllama", "serve", str(model), "--port", "0"],
            stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, "TINYLLAMA_API_KEY": ""},
        )  # fmt: skip
        try:
            assert process.stdout is not None
            yield Server(process.stdout.readline().strip().removesuffix("/v1"), log)
        finally:
            process.terminate()
            process.communicate(timeout=60)
    assert "Traceback" not in log.read_text()


# Lone surrogates.


def test_a_lone_surrogate_in_a_prompt_is_the_replacement_character(server: Server) -> None:
    lone = server.complete(prompt="hello \ud83d")
    assert lone["choices"] == server.complete(prompt="hello \ufffd")["choices"]


def test_a_lone_surrogate_in_a_message_is_the_replacement_character(server: Server) -> None:
    status, text = server.chat("hello \udc00")
    assert status == 200
    assert json.loads(text)["choices"] == json.loads(server.chat("hello \ufffd")[1])["choices"]


def test_a_lone_surrogate_in_a_stop_string_or_a_name_is_harmless(server: Server) -> None:
    assert server.complete(stop=["\ud83d"])["choices"]
    assert server.refuse(b'{"model": "\\ud83d", "prompt": "x"}') == (404, "model_not_found")


# Hostile bodies.


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"model":"chat","prompt":' + b'{"a":' * 100_000,
        b'{"model":"chat","prompt":"x","temperature":NaN}',
        b'{"model":"chat","prompt":"x","temperature":1e999}',
        b'{"model":"chat","prompt":"x","seed":' + b"9" * 10_000 + b"}",
        b'{"model":"chat","prompt":"x","seed":99999999999999999999}',
        b'{"model":"chat","prompt":"x","max_tokens":true}',
        b'{"model":"chat","prompt":"x","n":1.5}',
        b'{"model":"chat","prompt":"x","stop":{}}',
        b'{"model":"chat","prompt":"x","logit_bias":{"999999":1}}',
        b"\xff\xfe",
    ],
    ids=lambda body: repr(body[:48]),
)
def test_a_hostile_body_is_refused_in_the_apis_shape(server: Server, body: bytes) -> None:
    status, code = server.refuse(body)
    assert status == 400
    assert code in {"invalid_json", "invalid_value"}


def test_a_body_of_another_type_or_too_large_is_refused(server: Server) -> None:
    assert server.refuse(b"{}", **{"content-type": "text/plain"}) == (415, "unsupported_media_type")
    assert server.refuse(b'{"prompt":"' + b"x" * 1_000_001 + b'"}') == (413, "request_too_large")


# Null is no value.


def test_a_null_limit_leaves_the_other_limit(server: Server) -> None:
    assert server.complete(max_tokens=5)["usage"]["completion_tokens"] == 5
    status, text = server.chat("The", max_completion_tokens=None)
    assert status == 200
    assert json.loads(text)["usage"]["completion_tokens"] == 5


@pytest.mark.parametrize("key", ["temperature", "top_p", "stream", "echo"])
def test_null_is_absent(server: Server, key: str) -> None:
    null = server.complete(**({"seed": 1} | {key: None}))
    asked = {"model": "chat", "prompt": "The river", "temperature": 0, "max_tokens": 5, "seed": 1}
    asked.pop(key, None)
    absent = json.loads(server.ask("/v1/completions", asked)[1])
    assert null["choices"] == absent["choices"]


# What clients send.


def test_prompts_may_be_ids_and_lists(server: Server) -> None:
    (alone,) = server.complete(prompt=IDS)["choices"]
    both = server.complete(prompt=[IDS, IDS[:2]])["choices"]
    assert [choice["index"] for choice in both] == [0, 1]
    assert both[0] == alone
    assert len(server.complete(prompt=["a", "b", "c"], n=2)["choices"]) == 6


@pytest.mark.parametrize("tokens", [0, 1])
def test_a_prompt_is_scored_as_lm_eval_asks(server: Server, tokens: int) -> None:
    (choice,) = server.complete(prompt=[IDS], echo=True, logprobs=1, max_tokens=tokens)["choices"]
    found = choice["logprobs"]
    assert len(found["tokens"]) == len(IDS) + tokens
    assert found["token_logprobs"][0] is None
    assert all(logprob < 0 for logprob in found["token_logprobs"][1:])
    assert all(
        max(top.values()) >= own for own, top in zip(found["token_logprobs"], found["top_logprobs"], strict=True) if top
    )


def test_models_and_health_are_there(server: Server) -> None:
    status, text = server.ask("/v1/models/chat")
    assert (status, json.loads(text)["id"]) == (200, "chat")
    assert server.ask("/v1/models/other")[0] == 404
    assert server.ask("/health")[0] == 200


def test_a_stream_counts_its_tokens_if_asked(server: Server) -> None:
    asked = {"model": "chat", "prompt": "The", "max_tokens": 3, "temperature": 0, "stream": True}
    status, text = server.ask("/v1/completions", asked | {"stream_options": {"include_usage": True}})
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert (status, events[-1]) == (200, "[DONE]")
    assert json.loads(events[-2])["usage"]["completion_tokens"] == 3


def test_content_may_be_a_list_of_parts(server: Server) -> None:
    status, text = server.chat([{"type": "text", "text": "The river"}])
    assert status == 200
    assert json.loads(text)["choices"] == json.loads(server.chat("The river")[1])["choices"]
    assert server.chat([{"type": "image_url", "image_url": {"url": "x"}}])[0] == 400


def test_a_parameter_without_effect_is_refused_and_not_ignored(server: Server) -> None:
    assert server.refuse(b'{"model": "chat", "prompt": "x", "guided_regex": "x"}') == (400, "unknown_parameter")


def test_schemathesis_finds_nothing_but_documented_refusals(server: Server, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis", reason="make test-llamacpp installs it")
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{server.address}/openapi.json", "--seed", "1", "--no-color",
        "--max-examples", "30", "--request-timeout", "120", "--exclude-checks", "positive_data_acceptance",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
