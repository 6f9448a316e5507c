"""Serve models with llama.cpp over the OpenAI API."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tinyllama.errors import UserError
from tinyllama.installation import install_hint
from tinyllama.serve.api import Api
from tinyllama.serve.engine import ServedModel
from tinyllama.serve.guard import Guard
from tinyllama.serve.llama_cpp_engine import LlamaCppEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tinyllama.serve.guard import Limits


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
    uvicorn = _uvicorn()
    with TemporaryDirectory() as workspace, _listen(options.host, options.port) as listening:
        files = [_as_gguf(model, Path(workspace)) for model in models]
        served = {path.stem: _served(path) for path in files}
        if len(served) < len(files):
            raise UserError("two models have the same name; rename one of the files")
        guard = Guard(Api(served, options.limits), options.limits)
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


def _uvicorn() -> Any:  # noqa: ANN401  # an extra's module
    """The server's module, if llama.cpp is there too."""
    try:
        import llama_cpp  # noqa: F401  # so that a request does not find out
        import uvicorn
    except ImportError as error:
        raise UserError(f"serving needs an extra: {install_hint('serve')} ({error})") from None
    return uvicorn


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
    context, exact = model.shape.context, model.stored_dtypes == ("F32",)
    return ServedModel(
        name=path.stem,
        context=context,
        vocab_size=model.shape.vocab_size,
        tokenizer=model.tokenizer(),
        created=int(path.stat().st_mtime),
        load=lambda: LlamaCppEngine(path, context, exact=exact),
    )
