"""Refusals: error responses in the API's format, and what pydantic's errors say in it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import JsonValue, ValidationError

_LONGEST = 400
"""Characters of a message; it may quote what the client sent."""


class Code(StrEnum):
    """The `code` of an error, by which programs tell errors apart."""

    INVALID_JSON = "invalid_json"
    INVALID_VALUE = "invalid_value"
    UNKNOWN_PARAMETER = "unknown_parameter"
    UNSUPPORTED = "unsupported_value"
    CONTEXT_LENGTH = "context_length_exceeded"
    INVALID_KEY = "invalid_api_key"
    NOT_FOUND = "not_found"
    MODEL_NOT_FOUND = "model_not_found"
    METHOD = "method_not_allowed"
    TOO_LARGE = "request_too_large"
    MEDIA_TYPE = "unsupported_media_type"
    BUSY = "rate_limit_exceeded"
    FAILED = "internal_error"


_TYPES = {401: "authentication_error", 429: "rate_limit_error", 500: "internal_server_error"}


class Refusal(Exception):  # noqa: N818  # it becomes a response, not a failure
    """An error response: a status, the API's error object, and headers that belong to the status."""

    def __init__(
        self, status: int, code: Code, message: str, *, param: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param = status, code, message, param
        self.headers = headers or {}

    @property
    def body(self) -> dict[str, JsonValue]:
        """The response's body."""
        message = self.message if len(self.message) <= _LONGEST else f"{self.message[:_LONGEST]}…"
        kind = _TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": message, "type": kind, "param": self.param, "code": str(self.code)}}


def invalid(param: str, message: str) -> Refusal:
    """The refusal of one value."""
    return Refusal(400, Code.INVALID_VALUE, f"{param}: {message}", param=param)


def refusal_of(error: ValidationError) -> Refusal:
    """The refusal that states the first error of a request."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    param = ".".join(map(str, first["loc"])) or None
    where = f"{param}: " if param else ""
    if first["type"] == "extra_forbidden":
        return Refusal(400, Code.UNKNOWN_PARAMETER, f"{where}is no parameter of this server; remove it", param=param)
    return Refusal(400, Code.INVALID_VALUE, f"{where}{first['msg']}", param=param)
