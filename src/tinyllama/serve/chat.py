"""Responses of `/v1/chat/completions`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.serve.completions import Heading, token_label, usage_of
from tinyllama.serve.schemas.responses import (
    AnswerMessage,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatDelta,
    ChatLogprobs,
    Delta,
    TokenLogprob,
    TopLogprob,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tinyllama.inference.logprobs import ScoredToken
    from tinyllama.serve.engine import Engine
    from tinyllama.serve.generation import Job, Piece


def _logprobs(engine: Engine, scored: Sequence[ScoredToken]) -> ChatLogprobs:
    return ChatLogprobs(content=[_token(engine, entry) for entry in scored])


def _token(engine: Engine, entry: ScoredToken) -> TokenLogprob:
    own = _likely(engine, entry.token, entry.logprob or 0.0)
    return TokenLogprob(**own.model_dump(), top_logprobs=[_likely(engine, *other) for other in entry.top])


def _likely(engine: Engine, token: int, logprob: float) -> TopLogprob:
    spelled = engine.piece(token, special=True)
    return TopLogprob(token=token_label(engine, token), logprob=logprob, bytes=list(spelled))


def chat_completion(heading: Heading, job: Job, pieces: Sequence[Piece], engine: Engine) -> ChatCompletion:
    """The response of all pieces."""
    choices = []
    for index in range(job.choices):
        own = [piece for piece in pieces if piece.choice == index]
        scored = [entry for piece in own for entry in piece.scored]
        choices.append(
            ChatChoice(
                index=index,
                message=AnswerMessage(content="".join(piece.text for piece in own)),
                logprobs=None if job.top is None else _logprobs(engine, scored),
                finish_reason=own[-1].finish or "length",
            )
        )
    return ChatCompletion(**heading._asdict(), choices=choices, usage=usage_of(job, pieces))


class ChatEvents:
    """The events of a streamed response."""

    def __init__(self, heading: Heading, job: Job, engine: Engine) -> None:
        """Begin a response."""
        self._heading, self._job, self._engine = heading, job, engine
        self._begun: set[int] = set()

    def of(self, piece: Piece) -> Iterator[ChatChunk]:
        """The events of a piece: the first of an answer tells the role."""
        if piece.choice not in self._begun:
            self._begun.add(piece.choice)
            yield self._event(ChatDelta(index=piece.choice, delta=Delta(role="assistant", content="")))
        if piece.text or piece.scored:
            logprobs = _logprobs(self._engine, piece.scored) if piece.scored else None
            yield self._event(ChatDelta(index=piece.choice, delta=Delta(content=piece.text), logprobs=logprobs))
        if piece.finish:
            yield self._event(ChatDelta(index=piece.choice, delta=Delta(), finish_reason=piece.finish))

    def _event(self, delta: ChatDelta) -> ChatChunk:
        return ChatChunk(**self._heading._asdict(), choices=[delta])

    def usage(self, pieces: Iterable[Piece]) -> ChatChunk:
        """The last event, which counts the tokens."""
        return ChatChunk(**self._heading._asdict(), choices=[], usage=usage_of(self._job, pieces))
