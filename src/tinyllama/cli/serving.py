"""The command that serves models, over llama.cpp's server."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinyllama.cli.app import app
from tinyllama.errors import UserError

if TYPE_CHECKING:
    from tinyllama.serve.guard import ServedModel


@app.command(epilog="Example: tinyllama serve runs/mini/exports/v1.1-Q8_0-gguf")
def serve(  # noqa: PLR0913  # a command's options
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="GGUF files or folders with one; any other model is converted to GGUF first (F16).",
        ),
    ],
    *,
    host: Annotated[str, typer.Option(help="Any but this machine's own needs a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    api_key: Annotated[
        str | None, typer.Option(envvar="TINYLLAMA_API_KEY", help="That requests must bring (better as a variable).")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="New tokens of one answer, at most.")] = 512,
    max_requests: Annotated[int, typer.Option(min=1, help="Requests answered or waiting at once, at most.")] = 16,
    max_bytes: Annotated[int, typer.Option(min=1, help="Of one request, at most.")] = 1_000_000,
) -> None:
    """Serve models to what speaks the OpenAI API: /v1/completions, /v1/chat/completions and /v1/models.

    The engine is llama.cpp: pip install 'tinyllama[serve]'. One model is held at a time, and one request answered.
    """
    from tinyllama.serve.guard import Guard, Limits  # noqa: PLC0415  # with what follows

    if api_key is None and not _is_own(host):
        raise UserError(f"--host {host} is open to other machines; set TINYLLAMA_API_KEY to a key of yours")
    uvicorn, engine, checks = _engine()
    with TemporaryDirectory() as workspace, _listen(host, port) as listening:
        files = [_as_gguf(model, Path(workspace)) for model in models]
        served = {path.stem: _served(path) for path in files}
        if len(served) < len(files):
            raise UserError("two models have the same name; name a file another way")
        limits = Limits(max_tokens=max_tokens, requests=max_requests, body=max_bytes, api_key=api_key)
        guard = Guard(engine({path: served[path.stem].context for path in files}), served, limits, checks)
        bound_host, bound_port = listening.getsockname()[:2]
        typer.echo(f"http://{f'[{bound_host}]' if ':' in bound_host else bound_host}:{bound_port}/v1")
        uvicorn.Server(uvicorn.Config(guard, log_level="warning")).run(sockets=[listening])


def _is_own(host: str) -> bool:
    """Whether only this machine can reach an address."""
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


def _engine() -> tuple[Any, Any, dict[str, Any]]:
    """Uvicorn, what makes llama.cpp's application of GGUF files and their contexts, and its types of requests."""
    try:
        import uvicorn  # noqa: PLC0415  # an extra
        from llama_cpp import llama_supports_gpu_offload  # noqa: PLC0415  # as above
        from llama_cpp.server.app import create_app  # noqa: PLC0415  # as above
        from llama_cpp.server.settings import ModelSettings, ServerSettings  # noqa: PLC0415  # as above
        from llama_cpp.server.types import (  # noqa: PLC0415  # as above
            CreateChatCompletionRequest,
            CreateCompletionRequest,
        )
    except ImportError as error:
        raise UserError(f"serving needs the extra: pip install 'tinyllama[serve]' ({error})") from None
    from tinyllama.serve.guard import CHAT, COMPLETIONS  # noqa: PLC0415  # with what follows
    from tinyllama.train.machine import cores  # noqa: PLC0415  # imports torch

    checks = {
        COMPLETIONS: CreateCompletionRequest.model_validate,
        CHAT: CreateChatCompletionRequest.model_validate,
    }
    layers = -1 if llama_supports_gpu_offload() else 0
    threads = {"n_threads": cores(), "n_threads_batch": cores(), "n_gpu_layers": layers}

    def make(contexts: dict[Path, int]) -> Any:  # noqa: ANN401  # an ASGI application
        settings = [
            ModelSettings(
                model=str(path), model_alias=path.stem, n_ctx=context, use_mlock=False, verbose=False, **threads
            )
            for path, context in contexts.items()
        ]
        # Otherwise a new request would cut off the answer that another one is being given.
        return create_app(server_settings=ServerSettings(interrupt_requests=False), model_settings=settings)

    return uvicorn, make, checks


def _as_gguf(given: str, workspace: Path) -> Path:
    """A model's GGUF file: its own, or one made in `workspace`."""
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
    from tinyllama.serve.guard import ServedModel

    model = GgufModel(path, str(path))
    tokenizer = model.tokenizer()
    return ServedModel(
        context=model.shape.context,
        count=lambda text: len(tokenizer.encode_prompt(text)),
        chats=model.has_chat_template,
    )
