"""Responses of `/v1/completions`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tinyllama.serve.schemas.responses import Completion, CompletionChoice, CompletionLogprobs, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tinyllama.inference.logprobs import ScoredToken
    from tinyllama.serve.engine import Engine
    from tinyllama.serve.generation import Job, Piece


class Heading(NamedTuple):
    """What is the same in all events of a response."""

    id: str
    created: int
    """Unix time."""
    model: str


def usage_of(job: Job, pieces: Iterable[Piece]) -> Usage:
    """Tokens of a job and its answers."""
    new = sum(piece.new_tokens for piece in pieces)
    return Usage(prompt_tokens=job.prompt_tokens, completion_tokens=new, total_tokens=job.prompt_tokens + new)


def token_label(engine: Engine, token: int) -> str:
    r"""How a token is written; one that is no whole character like `bytes:\xe2`, as OpenAI writes it."""
    spelled = engine.piece(token, special=True)
    try:
        return spelled.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled)


class Offsets:
    """Where each token of an answer begins, in characters of the answer's text."""

    def __init__(self, engine: Engine) -> None:
        """Begin at an answer's start."""
        self._engine, self._spelled = engine, bytearray()

    def push(self, token: int) -> int:
        """The offset of the next token. The space that some tokenizers put before a text does not count."""
        offset = len(self._spelled.decode(errors="ignore"))
        self._spelled += self._engine.piece(token) if self._spelled else self._engine.piece(token).removeprefix(b" ")
        return offset


def _logprobs(engine: Engine, scored: Sequence[ScoredToken], offsets: Offsets) -> CompletionLogprobs:
    return CompletionLogprobs(
        tokens=[token_label(engine, entry.token) for entry in scored],
        token_logprobs=[entry.logprob for entry in scored],
        top_logprobs=[_top(engine, entry) for entry in scored],
        text_offset=[offsets.push(entry.token) for entry in scored],
    )


def _top(engine: Engine, entry: ScoredToken) -> dict[str, float] | None:
    """The most likely tokens and the token itself; of two that are written alike, the more likely one."""
    if entry.logprob is None:
        return None
    top: dict[str, float] = {}
    for token, logprob in [*entry.top, (entry.token, entry.logprob)]:
        top.setdefault(token_label(engine, token), logprob)
    return top


def completion(heading: Heading, job: Job, pieces: Sequence[Piece], engine: Engine) -> Completion:
    """The response of all pieces."""
    choices = []
    for index in range(len(job.prompts) * job.choices):
        own = [piece for piece in pieces if piece.choice == index]
        scored = [entry for piece in own for entry in piece.scored]
        choices.append(
            CompletionChoice(
                text="".join(piece.text for piece in own),
                index=index,
                logprobs=None if job.top is None else _logprobs(engine, scored, Offsets(engine)),
                finish_reason=own[-1].finish,
            )
        )
    return Completion(**heading._asdict(), choices=choices, usage=usage_of(job, pieces))


class CompletionEvents:
    """The events of a streamed response."""

    def __init__(self, heading: Heading, job: Job, engine: Engine) -> None:
        """Begin a response."""
        self._heading, self._job, self._engine = heading, job, engine
        self._offsets = {i: Offsets(engine) for i in range(len(job.prompts) * job.choices)}

    def of(self, piece: Piece) -> Iterator[Completion]:
        """The event of a piece; none if it adds nothing."""
        if piece.text or piece.scored or piece.finish:
            logprobs = _logprobs(self._engine, piece.scored, self._offsets[piece.choice]) if piece.scored else None
            choice = CompletionChoice(
                text=piece.text, index=piece.choice, logprobs=logprobs, finish_reason=piece.finish
            )
            yield Completion(**self._heading._asdict(), choices=[choice])

    def usage(self, pieces: Iterable[Piece]) -> Completion:
        """The last event, which counts the tokens."""
        return Completion(**self._heading._asdict(), choices=[], usage=usage_of(self._job, pieces))
