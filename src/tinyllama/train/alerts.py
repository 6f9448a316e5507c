"""Messages to the receiver of `logging.notify`: one small JSON object each, by an HTTP POST."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from tinyllama.errors import TrainingError
from tinyllama.paths import expand_text, unset_variables

_SECONDS = 5.0
"""That the receiver may take to answer."""
_LONGEST = 2000
"""Characters of a text; receivers refuse long ones."""


@dataclass(frozen=True, kw_only=True)
class Alert:
    """What a message says."""

    event: str
    """`spike`, `finished`, `stopped` or `failed`."""
    family: str
    """The recipe's name."""
    model: str
    step: int
    """The last that was recorded; 0 before the first."""
    tokens: int
    """Seen after the step."""
    loss: float | None
    """Of the step, in nats; None if it was not finite, and before the first."""
    text: str
    """All of it in a sentence, for people."""


def receiver(url: str | None) -> str | None:
    """The URL of the receiver, with environment variables replaced; None for none.

    Raises:
        TrainingError: a variable is not set, or its value is no URL; the message does not show the URL.
    """
    if url is None:
        return None
    if unset := unset_variables(url):
        raise TrainingError(f"logging.notify: {unset[0]} is not set; set the variable, or remove the key")
    expanded = expand_text(url)
    if not expanded.startswith(("https://", "http://")):
        raise TrainingError("logging.notify: its variable holds no URL; write one that begins with https:// there")
    return expanded


def post(url: str, alert: Alert) -> None:
    """Send a message.

    Raises:
        OSError: the receiver cannot be reached, does not answer, or refuses the message.
        ValueError: the URL has no valid host or port.
    """
    content = asdict(alert) | {"text": alert.text[:_LONGEST]}
    message = _Post(url, json.dumps(content).encode())
    try:
        with build_opener(_NoRedirects).open(message, timeout=_SECONDS) as answer:
            answer.read(_LONGEST)
    except HTTPError as error:
        error.close()  # it is the answer, too
        raise


def reason_of(error: Exception) -> str:
    """What went wrong, without the URL, which errors of libraries may quote."""
    if isinstance(error, HTTPError):
        return f"HTTP status {error.code}"
    cause = error.reason if isinstance(error, URLError) else error
    return (cause.strerror if isinstance(cause, OSError) else None) or type(cause).__name__


class _Post(Request):
    """A POST of JSON."""

    def __init__(self, url: str, content: bytes) -> None:
        super().__init__(url, content, {"Content-Type": "application/json"}, method="POST")


class _NoRedirects(HTTPRedirectHandler):
    """Follows no redirect, which becomes an error: the message is for the URL that the user wrote."""

    def redirect_request(self, *_: object) -> None:
        """Refuse it."""
