"""Serving to the official `openai` client: `make test-llamacpp`, which builds the engine."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.command import run
from tests.train.test_import_start import foreign_folder, with_tokenizer
from tinyllama.formats.open import open_model
from tinyllama.inference import Sampling, decode_batch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_an_address_open_to_others_needs_a_key() -> None:
    done = run("serve", "model.gguf", "--host", "0.0.0.0", TINYLLAMA_API_KEY="")  # noqa: S104  # it is refused
    assert done.returncode == 2
    assert "TINYLLAMA_API_KEY" in done.stderr


@contextmanager
def serving(*arguments: str | Path, **environment: str) -> Iterator[str]:
    """Address of `tinyllama serve` while the block runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tinyllama", "serve", *map(str, arguments), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.slow
def test_the_official_client_gets_texts_streams_and_errors(prepared: Path, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="make test-llamacpp builds it")
    openai = pytest.importorskip("openai", reason="make test-llamacpp installs it")
    folder = with_tokenizer(foreign_folder(tmp_path / "foreign"), prepared)
    source = open_model(folder)
    tokenizer = source.tokenizer()
    greedy = Sampling(temperature=0, repetition_penalty=1.0)
    prompt = "Return the"
    ids = tokenizer.encode_prompt(prompt)
    steps = decode_batch(source.load(), [ids], greedy, end_ids=tokenizer.end_ids, max_new_tokens=8, seed=0)
    new = [token for (token,) in steps if token is not None]
    expected = tokenizer.decode([*ids, *new]).removeprefix(prompt)

    with serving(folder, TINYLLAMA_API_KEY="secret") as address:
        assert address.startswith("http://127.0.0.1:")
        client = openai.OpenAI(base_url=address, api_key="secret", max_retries=0)
        assert [model.id for model in client.models.list()] == ["foreign"]
        asked = {"model": "foreign", "prompt": prompt, "temperature": 0, "max_tokens": 8}
        answer = client.completions.create(**asked)
        assert answer.choices[0].text == expected
        assert answer.usage.prompt_tokens == len(ids)
        pieces = [chunk.choices[0].text for chunk in client.completions.create(**asked, stream=True)]
        assert "".join(pieces) == expected
        assert len(pieces) > 3
        *pieces, last = client.completions.create(**asked, stream=True, stream_options={"include_usage": True})
        assert all(chunk.usage is None for chunk in pieces)
        assert (last.choices, last.usage) == ([], answer.usage)
        assert client.completions.create(**(asked | {"prompt": [ids, ids]}), n=2).choices[3].text == expected
        assert client.models.retrieve("foreign").id == "foreign"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("other")
        stopped = client.completions.create(**asked, stop=[expected[-4:-2]])
        assert stopped.choices[0].text == expected.split(expected[-4:-2])[0]

        with pytest.raises(openai.NotFoundError, match="'other' is not served"):
            client.completions.create(**(asked | {"model": "other"}))
        for change in ({"prompt": "the " * 100}, {"top_p": 7}, {"max_tokens": 10_000}):
            with pytest.raises(openai.BadRequestError) as caught:
                client.completions.create(**(asked | change))
            assert caught.value.body["type"] == "invalid_request_error"
        with pytest.raises(openai.BadRequestError, match="chat template"):
            client.chat.completions.create(model="foreign", messages=[{"role": "user", "content": "x"}])
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=address, api_key="other", max_retries=0).models.list()
        assert client.completions.create(**asked).choices[0].text == expected


@pytest.mark.slow
def test_a_tuned_model_answers_conversations(prepared: Path, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="make test-llamacpp builds it")
    openai = pytest.importorskip("openai", reason="make test-llamacpp installs it")
    folder = with_tokenizer(foreign_folder(tmp_path / "chat"), prepared)
    template = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    with serving(folder) as address:
        client = openai.OpenAI(base_url=address, api_key="none", max_retries=0)
        asked = {"model": "chat", "temperature": 0, "max_tokens": 8}
        answer = client.chat.completions.create(messages=[{"role": "user", "content": "Return the"}], **asked)
        plain = client.completions.create(prompt="Return the", **asked)
        parts: Any = [{"type": "text", "text": "Return the"}]
        *chunks, last = client.chat.completions.create(
            messages=[{"role": "user", "content": parts}], stream=True, stream_options={"include_usage": True}, **asked
        )
    assert answer.choices[0].message.content == plain.choices[0].text
    assert answer.usage.prompt_tokens == plain.usage.prompt_tokens
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == plain.choices[0].text
    assert last.usage == answer.usage
