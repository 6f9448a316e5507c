"""What clients may send, as pydantic models: they validate requests and are the schemas of the OpenAPI description.

A parameter that is null counts as absent. Types are strict: no number is read out of a string.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

MAX_CHOICES = 128
"""Answers of one request: its prompts times `n`."""

_PROMPTS = "must be a string, a list of strings, a list of token ids, or a list of lists of token ids; none is empty"
_STOPS = "must be a string or a list of at most 16 strings"
_CONTENT = 'must be a string or a list of parts {"type": "text", "text": …}; other parts are not supported'


def _explained(message: str) -> WrapValidator:
    """A validator that says in one sentence what a union of types may be."""

    def check(value: object, handler: ValidatorFunctionWrapHandler) -> object:
        try:
            return handler(value)
        except ValidationError:
            raise PydanticCustomError("choice", message) from None

    return WrapValidator(check)


class Body(BaseModel):
    """A JSON object of a request."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, given: object) -> object:
        return {key: value for key, value in given.items() if value is not None} if isinstance(given, dict) else given


TokenId = Annotated[int, Field(ge=0)]
Prompt = Annotated[
    str
    | Annotated[list[str], Field(min_length=1, max_length=MAX_CHOICES)]
    | Annotated[list[TokenId], Field(min_length=1)]
    | Annotated[
        list[Annotated[list[TokenId], Field(min_length=1)]],
        Field(min_length=1, max_length=MAX_CHOICES),
    ],
    _explained(_PROMPTS),
]
Stop = Annotated[str | Annotated[list[str], Field(max_length=16)], _explained(_STOPS)]
Bias = Annotated[float, Field(ge=-100, le=100)]


class StreamOptions(Body):
    """What a stream reports beside the text."""

    include_usage: bool = Field(default=False, description="End the stream with an event that counts the tokens.")
    include_obfuscation: bool = Field(default=False, description="Without effect.")


class GenerationRequest(Body):
    """What both kinds of completions have in common."""

    model: str = Field(description="Name of a served model.")
    max_tokens: int | None = Field(
        default=None, ge=0, description="New tokens of an answer, at most the server's limit."
    )
    n: int = Field(default=1, ge=1, le=MAX_CHOICES, description="Answers to each prompt.")
    stop: Stop = Field(default=[], description="Strings that end an answer; they are no part of it.")
    stream: bool = Field(default=False, description="Send the answer in server-sent events.")
    stream_options: StreamOptions = StreamOptions()
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63, description="Makes sampling repeatable.")
    temperature: float = Field(default=1.0, ge=0, le=100, description="0 always takes the most likely token.")
    top_p: float = Field(default=1.0, ge=0, le=1)
    top_k: int = Field(default=0, ge=0, lt=2**31, description="Sample among the N most likely tokens; 0 means all.")
    min_p: float = Field(
        default=0.0, ge=0, le=1, description="Least probability of a token, relative to that of the most likely one."
    )
    repeat_penalty: float = Field(
        default=1.0,
        ge=0.01,
        le=100,
        description="Divides the positive logits of tokens seen before; 1 means no penalty.",
    )
    presence_penalty: float = Field(default=0.0, ge=-2, le=2)
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    logit_bias: dict[str, Bias] = Field(default={}, description="Added to the logits of token ids.")
    user: str = Field(default="", description="Without effect.")
    metadata: dict[str, JsonValue] = Field(default={}, description="Without effect.")
    store: bool = Field(default=False, description="Without effect: nothing is stored.")
    service_tier: str = Field(default="auto", description="Without effect.")

    @property
    def wanted_tokens(self) -> int | None:
        """New tokens that an answer may have; None means the server's limit."""
        return self.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        """Strings that end an answer. Empty ones have no effect."""
        return tuple(stop for stop in ([self.stop] if isinstance(self.stop, str) else self.stop) if stop)


class CompletionRequest(GenerationRequest):
    """`POST /v1/completions`: continue prompts."""

    prompt: Prompt = Field(default="", description="Texts or token ids. Without text, the prompt is BOS.")
    echo: bool = Field(default=False, description="Begin each answer with its prompt.")
    logprobs: int | None = Field(
        default=None,
        ge=0,
        le=20,
        description="Give the log-probability of each token, and of the N most likely ones; with `echo`, "
        "of the prompt's tokens too.",
    )
    best_of: int | None = Field(default=None, ge=1, le=MAX_CHOICES, description="Only the value of `n` is supported.")
    suffix: Literal[""] = Field(default="", description="Only an empty suffix is supported.")


class TextPart(Body):
    """A part of a message."""

    type: Literal["text"]
    text: str


Content = Annotated[str | list[TextPart], _explained(_CONTENT)]


class ChatMessage(Body):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Content = ""
    name: str = Field(default="", description="Passed to the model's chat template.")

    @property
    def text(self) -> str:
        """Its text; parts are joined by newlines."""
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)


class ResponseFormat(Body):
    """The form of an answer."""

    type: Literal["text"] = "text"


class ChatRequest(GenerationRequest):
    """`POST /v1/chat/completions`: answer a conversation."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=0, description="The newer name of `max_tokens`.")
    logprobs: bool = Field(default=False, description="Give the log-probability of each new token.")
    top_logprobs: int | None = Field(default=None, ge=0, le=20, description="Also give the N most likely tokens.")
    response_format: ResponseFormat = ResponseFormat()
    tools: list[JsonValue] = Field(default=[], max_length=0, description="Tools are not supported.")
    tool_choice: Literal["none", "auto"] = Field(default="none", description="Without effect.")
    parallel_tool_calls: bool = Field(default=True, description="Without effect.")

    @property
    def wanted_tokens(self) -> int | None:
        """New tokens that an answer may have; None means the server's limit."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
