"""Engines with a server of their own, by stand-ins for their programs that record how they were started."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.export.conftest import tokenizer_model
from tests.export.hub_models import save_hub_model
from tests.export.test_shapes import export_f32
from tinyllama.errors import UserError
from tinyllama.formats.open import open_model
from tinyllama.serve.engine import EngineName, ServeOptions
from tinyllama.serve.guard import Limits
from tinyllama.serve.server import serve
from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["tokenizer_model"]

PROGRAM = """#!{python}
import json, os, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Healthy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

keys = {{name: os.environ.get(name) for name in ("LLAMA_API_KEY", "VLLM_API_KEY")}}
with open({record!r}, "w") as file:
    json.dump({{"arguments": sys.argv[1:], **keys}}, file)
port = int(sys.argv[sys.argv.index("--port") + 1])
server = HTTPServer(("127.0.0.1", port), Healthy)
{then}
"""
ANSWERS_ONCE = "server.handle_request()"


@pytest.fixture
def folder(tmp_path: Path, tokenizer_model: Path) -> Path:
    """A small Llama as transformers writes it, with a tokenizer."""
    save_hub_model("linear", tmp_path / "small", SentencePieceTokenizer(tokenizer_model).vocab_size)
    (tmp_path / "small" / "tokenizer.model").write_bytes(tokenizer_model.read_bytes())
    return tmp_path / "small"


@pytest.fixture
def gguf(folder: Path, tmp_path: Path, tokenizer_model: Path) -> Path:
    pytest.importorskip("gguf", reason="the extra gguf")
    return export_f32(open_model(folder), tmp_path / "gguf", tokenizer_model)


def started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: EngineName, model: Path, then: str = ANSWERS_ONCE
) -> dict[str, Any]:
    """How `serve` started a stand-in for an engine's program, which answers and ends."""
    program, record = tmp_path / "bin" / engine.value, tmp_path / "started.json"
    program.parent.mkdir()
    program.write_text(PROGRAM.format(python=sys.executable, record=str(record), then=then))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    limits = Limits(max_tokens=77, requests=16, body=1000, api_key="secret")
    said: list[str] = []
    serve([str(model)], ServeOptions(limits, "127.0.0.1", 0, engine, 3), said.append)
    found: dict[str, Any] = json.loads(record.read_text())
    port = found["arguments"][found["arguments"].index("--port") + 1]
    assert said == [f"http://127.0.0.1:{port}/v1"]
    return found


def test_llama_server_gets_the_file_a_context_for_each_request_and_the_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gguf: Path
) -> None:
    found = started(monkeypatch, tmp_path, EngineName.llama_server, gguf)
    before, after = found["arguments"][:7], found["arguments"][8:]
    assert before == ["--model", str(gguf), "--alias", "model-F32", "--host", "127.0.0.1", "--port"]
    assert after == [
        "--parallel", "3", "--ctx-size", "1536", "--predict", "77", "--cache-type-k", "f32", "--cache-type-v", "f32",
    ]  # fmt: skip
    assert found["LLAMA_API_KEY"] == "secret"
    assert "secret" not in found["arguments"]


def test_vllm_gets_the_folder_where_a_gpu_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = started(monkeypatch, tmp_path, EngineName.vllm, folder)
    before, after = found["arguments"][:6], found["arguments"][7:]
    assert before == ["serve", str(folder), "--served-model-name", "small", "--host", "127.0.0.1"]
    assert after[1:] == [
        "--max-num-seqs", "3", "--max-model-len", "512", "--override-generation-config", '{"max_new_tokens": 77}',
    ]  # fmt: skip
    assert found["VLLM_API_KEY"] == "secret"


def test_a_folder_becomes_a_gguf_file_for_llama_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path
) -> None:
    pytest.importorskip("gguf", reason="the extra gguf")
    exists = "os.stat(sys.argv[2])\n" + ANSWERS_ONCE
    found = started(monkeypatch, tmp_path, EngineName.llama_server, folder, exists)
    assert found["arguments"][1].endswith("/small.gguf")
    assert found["arguments"][-1] == "f16"


def test_sigterm_ends_the_engine_and_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gguf: Path) -> None:
    then = f"{ANSWERS_ONCE}\nos.kill(os.getppid(), signal.SIGTERM)\nserver.serve_forever()"
    started(monkeypatch, tmp_path, EngineName.llama_server, gguf, then)


def test_an_engine_that_fails_is_an_error_with_its_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gguf: Path
) -> None:
    with pytest.raises(UserError, match="llama-server ended with exit code 3; its messages above say why"):
        started(monkeypatch, tmp_path, EngineName.llama_server, gguf, "sys.exit(3)")


@pytest.mark.parametrize(
    ("engine", "models", "message"),
    [
        (EngineName.llama_server, 1, "there is no program llama-server on PATH; install llama.cpp"),
        (EngineName.vllm, 1, "there is no program vllm on PATH; install vLLM"),
        (EngineName.llama_server, 2, "serves one model; start one server for each"),
    ],
)
def test_what_an_engine_cannot_do_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: EngineName, models: int, message: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    limits = Limits(max_tokens=1, requests=1, body=1, api_key=None)
    with pytest.raises(UserError, match=f"--engine {engine.value}.*{message}"):
        serve(["a.gguf"] * models, ServeOptions(limits, engine=engine), print)


def test_vllm_is_refused_without_a_gpu_and_with_a_gguf_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gguf: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="--engine vllm needs a GPU"):
        started(monkeypatch, tmp_path, EngineName.vllm, gguf)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    (tmp_path / "bin" / "vllm").unlink()
    (tmp_path / "bin").rmdir()
    with pytest.raises(UserError, match="vLLM reads Hugging Face folders; export the model as one"):
        started(monkeypatch, tmp_path, EngineName.vllm, gguf)
