"""The command `serve`: serve models over the OpenAI API."""

from __future__ import annotations

from typing import Annotated

import typer

from tinyllama.cli.app import app, whole


@app.command(
    short_help="Serve models over the OpenAI API, with llama.cpp.",
    epilog="Example: tinyllama serve runs/mini/exports/v1.1-Q8_0-gguf",
)
def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...", help="GGUF files or folders with one; any other model is converted to GGUF (F16) first."
        ),
    ],
    *,
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

    /openapi.json describes the API. The engine is llama.cpp, from the extra `serve`. One model is in memory and one
    request is processed at a time.
    """
    from tinyllama.serve.guard import Limits
    from tinyllama.serve.server import ServeOptions
    from tinyllama.serve.server import serve as run_server

    limits = Limits(max_tokens=max_tokens, requests=max_requests, body=max_bytes, api_key=api_key)
    run_server(models, ServeOptions(limits, host, port), typer.echo)
