"""The application."""

from typing import Any


def create_app(**_settings: object) -> Any:  # noqa: ANN401  # an ASGI application
    """An application that answers every request with what it was asked."""

    async def echo(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401  # ASGI
        if scope["type"] == "http":
            body = (await receive())["body"]
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": body})

    return echo
