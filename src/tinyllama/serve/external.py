"""Engines with a server of their own, `llama-server` and `vllm serve`, which answer several requests at once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tinyllama.errors import UserError
from tinyllama.serve.engine import EngineName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from tinyllama.serve.engine import ServeOptions


class Served(NamedTuple):
    """A model in the form that an engine reads."""

    path: Path
    name: str
    context: int
    exact: bool = False
    """Whether its weights are F32, so that its cache is too."""


class Program(NamedTuple):
    """How an engine is started."""

    remedy: str
    """How to install it."""
    arguments: Callable[[Served, ServeOptions, int], Sequence[str]]
    """Of the model, the options and the port."""
    key: str
    """Environment variable with the API key, which other users of the machine cannot see."""


def _llama_server(model: Served, options: ServeOptions, port: int) -> list[str]:
    cache = "f32" if model.exact else "f16"
    return [
        "--model", str(model.path), "--alias", model.name, "--host", options.host, "--port", str(port),
        # The requests in progress share the context.
        "--parallel", str(options.parallel), "--ctx-size", str(model.context * options.parallel),
        "--predict", str(options.limits.max_tokens), "--cache-type-k", cache, "--cache-type-v", cache,
    ]  # fmt: skip


def _vllm(model: Served, options: ServeOptions, port: int) -> list[str]:
    longest = json.dumps({"max_new_tokens": options.limits.max_tokens})
    return [
        "serve", str(model.path), "--served-model-name", model.name, "--host", options.host, "--port", str(port),
        "--max-num-seqs", str(options.parallel), "--max-model-len", str(model.context),
        "--override-generation-config", longest,
    ]  # fmt: skip


PROGRAMS: dict[EngineName, Program] = {
    EngineName.llama_server: Program(
        "install llama.cpp (https://github.com/ggml-org/llama.cpp, docs/install.md), or serve with --engine "
        "llama-cpp-python",
        _llama_server,
        "LLAMA_API_KEY",
    ),
    EngineName.vllm: Program(
        "install vLLM (https://docs.vllm.ai) in an environment of its own and put its `bin` on PATH, or serve with "
        "--engine llama-server",
        _vllm,
        "VLLM_API_KEY",
    ),
}


def find_program(engine: EngineName) -> str:
    """Path of an engine's program.

    Raises:
        UserError: it is not installed.
    """
    beside = Path(sys.executable).parent
    found = shutil.which(engine, path=os.pathsep.join([os.environ.get("PATH", ""), str(beside)]))
    if found is None:
        raise UserError(f"--engine {engine}: there is no program {engine} on PATH; {PROGRAMS[engine].remedy}")
    return found


def run_external(
    engine: EngineName, program: str, model: Served, options: ServeOptions, announce: Callable[[str], None]
) -> None:
    """Run an engine's own server until it ends or this process is asked to.

    Args:
        engine: that answers.
        program: its path, from `find_program`.
        model: to serve.
        options: address and limits.
        announce: receives the API's address once the engine answers.

    Raises:
        UserError: the engine failed; it has said why.
    """
    port = options.port or _free_port(options.host)
    host = f"[{options.host}]" if ":" in options.host else options.host
    key = options.limits.api_key
    environment = {**os.environ, **({PROGRAMS[engine].key: key} if key is not None else {})}
    # What an engine prints is no result of ours.
    command = [program, *PROGRAMS[engine].arguments(model, options, port)]
    with subprocess.Popen(command, env=environment, stdout=sys.stderr) as child, _passing_signals(child) as asked:
        if _wait_until_healthy(child, options.host, port):
            announce(f"http://{host}:{port}/v1")
        code = child.wait()
    if code and not asked:
        raise UserError(f"{engine} ended with exit code {code}; its messages above say why")


@contextmanager
def _passing_signals(child: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Let Ctrl-C and SIGTERM end the engine; yields the signals that came."""
    received: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        child.terminate()

    previous = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _wait_until_healthy(child: subprocess.Popen[bytes], host: str, port: int) -> bool:
    """Whether an engine began to answer, which takes as long as it loads its model."""
    while child.poll() is None:
        connection = HTTPConnection(host, port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return True
        except (OSError, HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    return False


def _free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listening:
        port: int = listening.getsockname()[1]
    return port
