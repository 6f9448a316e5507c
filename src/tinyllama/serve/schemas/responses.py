"""What the server answers, as pydantic models: they are the schemas of the OpenAPI description too."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Finish = Literal["stop", "length"]
"""Why an answer ended: at a stop string or an end token, or at its limit of tokens."""


class Record(BaseModel):
    """A JSON object of a response."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Health(Record):
    """`GET /health`."""

    status: Literal["ok"] = "ok"


class Model(Record):
    """`GET /v1/models/NAME`."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "tinyllama"


class ModelList(Record):
    """`GET /v1/models`."""

    object: Literal["list"] = "list"
    data: list[Model]


class Usage(Record):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionLogprobs(Record):
    """Tokens of a text, a list entry each. The first token of a prompt has no log-probability."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(Record):
    """One answer, or what an event adds to it."""

    text: str
    index: int
    logprobs: CompletionLogprobs | None = None
    finish_reason: Finish | None = None


class Completion(Record):
    """The answer of `POST /v1/completions`, or one event of it."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class TopLogprob(Record):
    """A likely token."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """A token of an answer."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(Record):
    """Tokens of an answer."""

    content: list[TokenLogprob]
    refusal: None = None


class AnswerMessage(Record):
    """The message of an answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(Record):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: Finish


class ChatCompletion(Record):
    """The answer of `POST /v1/chat/completions`."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class Delta(Record):
    """What an event adds to a message; the role comes first."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChatDelta(Record):
    """What an event adds to one answer."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None = None
    finish_reason: Finish | None = None


class ChatChunk(Record):
    """One event of a streamed conversation."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatDelta]
    usage: Usage | None = None


class ErrorDetail(Record):
    """What was wrong with a request."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(Record):
    """Every error."""

    error: ErrorDetail
