"""What may ask the studio: pages of its own address. Pages of other sites and foreign names get nothing.

A page of another site can send requests to this machine, and after DNS rebinding even under its own name. Browsers
state both: the name in `Host`, the site in `Origin` and `Sec-Fetch-Site`.
"""

from __future__ import annotations

import hashlib
import hmac
import socket
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

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
    "referrer-policy": "no-referrer",  # the address may hold the token
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
_WEEK = 7 * 86400


@dataclass(frozen=True)
class Access:
    """Who may ask."""

    names: frozenset[str]
    """Names of this machine that `Host` may have."""
    numbers: bool = False
    """Whether `Host` may be any number of an address: those cannot be rebound."""
    token: str | None = None
    """What requests must bring; None for an address that only this machine reaches, where nothing can be changed."""

    @property
    def cookie(self) -> str:
        """Name of the cookie with the token: each studio has its own, since cookies do not distinguish ports."""
        return f"tinyllama-studio-{hashlib.sha256((self.token or '').encode()).hexdigest()[:8]}"


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
                fields = _HEADERS | self._cookie(scope)
                message["headers"] = [
                    *message.get("headers", ()),
                    *((name.encode(), value.encode()) for name, value in fields.items()),
                ]
            await send(message)

        if reason := self._refusal(scope, headers):
            body = reason.encode()
            plain = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
            await answer({"type": "http.response.start", "status": 403, "headers": plain})
            await answer({"type": "http.response.body", "body": body})
            return
        await self._app(scope, receive, answer)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> str:
        """Why a request is refused; empty if it is not."""
        host = headers.get("host", "")
        if not self._is_own_name(host):
            return "this name is not one of the studio; open the address that the command printed"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return "pages of other sites get nothing from the studio"
        site, opened = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-dest") == "document"
        if site not in {"none", "same-origin"} and not (opened and scope["path"] == "/" and scope["method"] == "GET"):
            return "pages of other sites get nothing from the studio"
        token = self._access.token
        if token is not None and not any(
            hmac.compare_digest(given, token) for given in _tokens(scope, headers, self._access.cookie)
        ):
            return "the token is missing; open the address that the command printed, with its token"
        return ""

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

    def _cookie(self, scope: Scope) -> dict[str, str]:
        """Keep a token that came with the address, so that the page's own requests have it."""
        token = self._access.token
        if token is None or not any(hmac.compare_digest(given, token) for given in _query_tokens(scope)):
            return {}
        return {"set-cookie": f"{self._access.cookie}={token}; HttpOnly; SameSite=Strict; Path=/; Max-Age={_WEEK}"}


def _query_tokens(scope: Scope) -> list[str]:
    query = parse_qs(scope["query_string"].decode("latin-1"))
    return [text for text in query.get("token", []) if text.isascii()]


def _tokens(scope: Scope, headers: dict[str, str], cookie: str) -> list[str]:
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        cookies = SimpleCookie()
    stored = [cookies[cookie].value] if cookie in cookies else []
    return [text for text in (*stored, *_query_tokens(scope)) if text.isascii()]
