"""What may ask the studio: pages of its own address. Pages of other sites and foreign names get nothing.

A page of another site can send requests to this machine, and after DNS rebinding even under its own name. Browsers
state both: the name in `Host`, the site in `Origin` and `Sec-Fetch-Site`.

Where a token is required, it begins the path of every request. The page names what it asks for relative to its own
address, so the browser sends the token there alone. A cookie would reach every server of the same host: cookies do
not distinguish ports.
"""

from __future__ import annotations

import hmac
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tinyllama.serve.listening import is_own

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_DIRECTIVES = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "style-src-attr": "'unsafe-inline'",  # the report's tables and tree have colors and places of their own
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "studio",
}
POLICY = "; ".join(f"{name} {value}" for name, value in _DIRECTIVES.items())
"""The Content-Security-Policy: nothing is requested from elsewhere, and no text becomes a script."""
_HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",  # the address may have the token
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Access:
    """Who may ask."""

    names: frozenset[str]
    """Names of this machine that `Host` may have."""
    numbers: bool = False
    """Whether `Host` may be any number of an address: those cannot be rebound."""
    token: str | None = None
    """What the path of a request must begin with; None for an address that only this machine reaches, where nothing can
    be changed."""

    @property
    def path(self) -> str:
        """Path of the page."""
        return "/" if self.token is None else f"/{self.token}/"


def access_of(host: str, token: str, *, control: bool = False) -> Access:
    """Who may ask a server that listens on an address.

    Args:
        host: the address.
        token: required where other machines reach the address, or requests can change something.
        control: whether they can.
    """
    if is_own(host):
        names = frozenset({"localhost", "127.0.0.1", "::1", host})
        return Access(names, token=token if control else None)
    own = {host, "localhost", socket.gethostname(), socket.getfqdn()}
    return Access(frozenset(name.lower() for name in own), numbers=True, token=token)


class StudioGuard:
    """The ASGI application that forwards admissible requests to another one."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; pass startup and shutdown events through."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", ()),
                    *((name.encode(), value.encode()) for name, value in _HEADERS.items()),
                ]
            await send(message)

        if reason := self._refusal(scope, headers):
            body = reason.encode()
            plain = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
            await answer({"type": "http.response.start", "status": 403, "headers": plain})
            await answer({"type": "http.response.body", "body": body})
            return
        await self._app({**scope, "root_path": self._access.path[:-1]}, receive, answer)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> str:
        """Why a request is refused; empty if it is not."""
        host = headers.get("host", "")
        if not self._is_own_name(host):
            return "this name is not one of the studio; open the address that the command printed"
        if not self._has_token(scope["path"]):
            return "the token is missing; open the address that the command printed, with its token"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return "pages of other sites get nothing from the studio"
        site, opened = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-dest") == "document"
        is_page = scope["path"] == self._access.path and scope["method"] == "GET"
        if site not in {"none", "same-origin"} and not (opened and is_page):
            return "pages of other sites get nothing from the studio"
        return ""

    def _has_token(self, path: str) -> bool:
        token = self._access.token
        if token is None:
            return True
        given, slash, _ = path[1:].partition("/")
        return bool(slash) and hmac.compare_digest(given.encode(), token.encode())

    def _is_own_name(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if name in self._access.names:
            return True
        try:
            ip_address(name)
        except ValueError:
            return False
        return self._access.numbers
