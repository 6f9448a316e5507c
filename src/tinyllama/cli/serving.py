"""The command `serve`: serve models over the OpenAI API."""

from __future__ import annotations

from typing import Annotated

import typer

from tinyllama.cli.app import app, refuse_options, whole
from tinyllama.serve.engine import EngineName, ServeOptions


@app.command(
    short_help="Serve models over the OpenAI API, with llama.cpp.",
    epilog="Example: tinyllama serve runs/mini/exports/v1.1-Q8_0-gguf",
)
def serve(
    ctx: typer.Context,
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...", help="GGUF files or folders with one; any other model is converted to GGUF (F16) first."
        ),
    ],
    *,
    engine: Annotated[
        EngineName,
        typer.Option(
            help="What computes the answers: llama.cpp in this process (auto, llama-cpp-python), or the program with "
            "this name, with its own API and limits."
        ),
    ] = EngineName.auto,
    parallel: Annotated[int, whole("Requests that llama-server or vllm answers at once.", most=1000)] = 4,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any address other than loopback requires an API key.")
    ] = "127.0.0.1",
    port: Annotated[int, whole("Port to listen on; 0 chooses a free port.", least=0, most=65535)] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="TINYLLAMA_API_KEY", metavar="KEY", help="API key that requests must send."),
    ] = None,
    max_tokens: Annotated[int, whole("Maximum number of new tokens per answer.")] = 512,
    max_requests: Annotated[int, whole("Maximum number of requests in progress or waiting.")] = 16,
    max_bytes: Annotated[int, whole("Maximum size of a request, in bytes.")] = 1_000_000,
) -> None:
    """Serve models to clients of the OpenAI API: /v1/completions, /v1/chat/completions and /v1/models.

    /openapi.json describes the API. The engine is llama.cpp, from the extra `serve`; then one model is in memory and
    one request is processed at a time. `llama-server` and `vllm` serve one model and answer several requests at once.
    """
    from tinyllama.serve.guard import Limits
    from tinyllama.serve.server import serve as run_server

    if engine in {EngineName.auto, EngineName.llama_cpp_python}:
        refuse_options(ctx, {"parallel"}, "with llama-cpp-python, which answers one request at a time; add --engine")
    else:
        refuse_options(ctx, {"max_requests", "max_bytes"}, f"with {engine.value}, which has its own limits; omit it")
    limits = Limits(max_tokens=max_tokens, requests=max_requests, body=max_bytes, api_key=api_key)
    run_server(models, ServeOptions(limits, host, port, engine, parallel), typer.echo)
