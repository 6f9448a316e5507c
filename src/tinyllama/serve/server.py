"""Serve models with llama.cpp's server, behind a guard for the OpenAI API."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tinyllama.errors import UserError
from tinyllama.installation import install_hint
from tinyllama.processors import available_cores
from tinyllama.serve.guard import CHAT, COMPLETIONS, Guard, Limits, ServedModel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tinyllama.serve.guard import Check


@dataclass(frozen=True)
class ServeOptions:
    """The address that a server listens on, and its limits."""

    limits: Limits
    host: str = "127.0.0.1"
    """Any address other than loopback requires an API key."""
    port: int = 8000
    """0 chooses a free port."""


def serve(models: Sequence[str], options: ServeOptions, announce: Callable[[str], None]) -> None:
    """Serve models until the process is stopped. One model is in memory and one request is processed at a time.

    Args:
        models: GGUF files or folders with one; any other model is converted to GGUF (F16) first.
        options: address and limits.
        announce: receives the API's address once the server listens.

    Raises:
        UserError: the address is in use, or is open to other machines without an API key; or the extra `serve` is
            not installed.
        ModelError: a model cannot be opened.
    """
    if options.limits.api_key is None and not _is_own(options.host):
        raise UserError(f"--host {options.host} is open to other machines; set TINYLLAMA_API_KEY to require an API key")
    uvicorn, engine, checks = _engine()
    with TemporaryDirectory() as workspace, _listen(options.host, options.port) as listening:
        files = [_as_gguf(model, Path(workspace)) for model in models]
        served = {path.stem: _served(path) for path in files}
        if len(served) < len(files):
            raise UserError("two models have the same name; rename one of the files")
        guard = Guard(engine({path: served[path.stem].context for path in files}), served, options.limits, checks)
        host, port = listening.getsockname()[:2]
        announce(f"http://{f'[{host}]' if ':' in host else host}:{port}/v1")
        uvicorn.Server(uvicorn.Config(guard, log_level="warning")).run(sockets=[listening])


def _is_own(host: str) -> bool:
    """Whether an address is reachable only from this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UserError(f"cannot listen on {host} port {port}: {error.strerror}; give another --port") from error


def _engine() -> tuple[Any, Any, dict[str, Check]]:
    """Uvicorn, a factory of llama.cpp's application from GGUF files and context sizes, and its request types."""
    try:
        import uvicorn  # an extra
        from llama_cpp import llama_supports_gpu_offload
        from llama_cpp.server.app import create_app
        from llama_cpp.server.settings import ModelSettings, ServerSettings
        from llama_cpp.server.types import (
            CreateChatCompletionRequest,
            CreateCompletionRequest,
        )
    except ImportError as error:
        raise UserError(f"serving needs an extra: {install_hint('serve')} ({error})") from None

    checks = {
        COMPLETIONS: CreateCompletionRequest.model_validate,
        CHAT: CreateChatCompletionRequest.model_validate,
    }
    layers = -1 if llama_supports_gpu_offload() else 0
    threads = {"n_threads": available_cores(), "n_threads_batch": available_cores(), "n_gpu_layers": layers}

    def make(contexts: dict[Path, int]) -> Any:  # noqa: ANN401  # an ASGI application
        settings = [
            ModelSettings(
                model=str(path), model_alias=path.stem, n_ctx=context, use_mlock=False, verbose=False, **threads
            )
            for path, context in contexts.items()
        ]
        # Otherwise a new request would interrupt the answer to the previous one.
        return create_app(server_settings=ServerSettings(interrupt_requests=False), model_settings=settings)

    return uvicorn, make, checks


def _as_gguf(given: str, workspace: Path) -> Path:
    """A model's GGUF file; converts other formats in `workspace`."""
    from tinyllama.export import convert_to_gguf
    from tinyllama.formats.model_source import GgufModel
    from tinyllama.formats.open import open_model

    source = open_model(given)
    if isinstance(source, GgufModel):
        return source.path
    convert_to_gguf(source, workspace / source.title, "F16")
    (made,) = (workspace / source.title).glob("*.gguf")
    return made.rename(workspace / f"{source.title}.gguf")


def _served(path: Path) -> ServedModel:
    from tinyllama.formats.model_source import GgufModel

    model = GgufModel(path, str(path))
    tokenizer = model.tokenizer()
    return ServedModel(
        context=model.shape.context,
        count=lambda text: len(tokenizer.encode_prompt(text)),
        chats=model.has_chat_template,
    )
