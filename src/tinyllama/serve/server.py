"""Serve models over the OpenAI API: with llama.cpp in this process, or with an engine's own server."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tinyllama.errors import UserError
from tinyllama.installation import install_hint
from tinyllama.serve.api import Api
from tinyllama.serve.engine import EngineName, ServedModel, ServeOptions
from tinyllama.serve.external import PROGRAMS, Served, find_program, run_external
from tinyllama.serve.guard import Guard
from tinyllama.serve.listening import address, is_own, listen
from tinyllama.serve.llama_cpp_engine import LlamaCppEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def serve(models: Sequence[str], options: ServeOptions, announce: Callable[[str], None]) -> None:
    """Serve models until the process is stopped.

    With llama-cpp-python, one model is in memory and one request is processed at a time.

    Args:
        models: GGUF files or folders with one; any other model is converted to GGUF (F16) first. vLLM reads Hugging
            Face folders instead.
        options: address, limits and engine.
        announce: receives the API's address once the server listens.

    Raises:
        UserError: the address is in use, or is open to other machines without an API key; or the engine is not
            installed, or has other limits.
        ModelError: a model cannot be opened.
    """
    if options.limits.api_key is None and not is_own(options.host):
        raise UserError(f"--host {options.host} is open to other machines; set TINYLLAMA_API_KEY to require an API key")
    if options.engine in PROGRAMS:
        _serve_external(options.engine, models, options, announce)
        return
    uvicorn = _uvicorn()
    with TemporaryDirectory() as workspace, listen(options.host, options.port) as listening:
        files = [_as_gguf(model, Path(workspace)) for model in models]
        served = {path.stem: _served(path) for path in files}
        if len(served) < len(files):
            raise UserError("two models have the same name; rename one of the files")
        guard = Guard(Api(served, options.limits), options.limits)
        announce(f"{address(*listening.getsockname()[:2])}/v1")
        uvicorn.Server(uvicorn.Config(guard, log_level="warning")).run(sockets=[listening])


def _serve_external(
    engine: EngineName, models: Sequence[str], options: ServeOptions, announce: Callable[[str], None]
) -> None:
    if len(models) > 1:
        raise UserError(f"--engine {engine} serves one model; start one server for each, on a --port of its own")
    program = find_program(engine)
    with TemporaryDirectory() as workspace:
        if engine is EngineName.vllm:
            served = _for_vllm(models[0])
        else:
            served = _for_llama_server(_as_gguf(models[0], Path(workspace)))
        run_external(engine, program, served, options, announce)


def _for_llama_server(path: Path) -> Served:
    from tinyllama.formats.model_source import GgufModel

    model = GgufModel(path, str(path))
    return Served(path, path.stem, model.shape.context, exact=model.stored_dtypes == ("F32",))


def _for_vllm(given: str) -> Served:
    """A model as vLLM reads it, where vLLM can run."""
    import torch

    from tinyllama.formats.model_source import HuggingFaceModel
    from tinyllama.formats.open import open_model

    if not torch.cuda.is_available():
        raise UserError("--engine vllm needs a GPU, and PyTorch finds none; serve with --engine llama-server")
    source = open_model(given)
    if not isinstance(source, HuggingFaceModel):
        raise UserError(f"{given}: vLLM reads Hugging Face folders; export the model as one, then serve that folder")
    return Served(source.path, source.title, source.shape.context)


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
