"""Answers of an engine, piece by piece, whatever the shape of the response."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from tinyllama.inference.logprobs import ScoredToken, score_token
from tinyllama.inference.text_stream import TextStream
from tinyllama.serve.engine import PromptScorer
from tinyllama.serve.refusal import Code, Refusal
from tinyllama.serve.sampling import Sampler
from tinyllama.serve.scoring import score_prompt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tinyllama.serve.engine import Engine
    from tinyllama.serve.sampling import ApiSampling
    from tinyllama.serve.schemas.responses import Finish
    from tinyllama.tokenizer.base import Tokenizer


@dataclass(frozen=True)
class Job:
    """What a request asks of the engine."""

    prompts: Sequence[Sequence[int]]
    choices: int
    """Answers to each prompt."""
    max_tokens: int
    context: int
    stops: Sequence[str]
    sampling: ApiSampling
    seed: int | None
    top: int | None
    """How many most likely tokens to report at each place; None reports no log-probabilities."""
    echo: bool = False
    """Begin each answer with its prompt, and its log-probabilities."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts."""
        return sum(map(len, self.prompts))


class Piece(NamedTuple):
    """What one step adds to an answer."""

    choice: int
    """Index of the answer."""
    text: str
    scored: Sequence[ScoredToken] = ()
    """Its tokens, if the request asks for log-probabilities."""
    new_tokens: int = 0
    finish: Finish | None = None
    """Set in the last piece of an answer."""


def run(engine: Engine, tokenizer: Tokenizer, job: Job) -> Iterator[Piece]:
    """Answer a job: the pieces of one answer after those of the other, in order.

    Raises:
        Refusal: the job asks for log-probabilities inside a prompt, which the engine does not give.
    """
    generator = torch.Generator().manual_seed(secrets.randbits(63) if job.seed is None else job.seed)
    sampler = Sampler(job.sampling, generator)
    for number, prompt in enumerate(job.prompts):
        scored = _score(engine, prompt, job.top) if job.echo and job.top is not None else []
        for choice in range(job.choices):
            index = number * job.choices + choice
            if job.echo:
                yield Piece(index, tokenizer.decode(prompt), scored)
            for piece in _answer(engine, tokenizer, prompt, job, sampler):
                yield piece._replace(choice=index)


def _score(engine: Engine, prompt: Sequence[int], top: int) -> list[ScoredToken]:
    if not isinstance(engine, PromptScorer):
        text = f"the engine {engine.name} gives no log-probabilities of a prompt; send echo or logprobs, not both"
        raise Refusal(400, Code.UNSUPPORTED, text, param="echo")
    return score_prompt(engine, prompt, top)


def _answer(engine: Engine, tokenizer: Tokenizer, prompt: Sequence[int], job: Job, sampler: Sampler) -> Iterator[Piece]:
    stream = TextStream(tokenizer, prompt, job.stops)
    ids = list(prompt)
    for _ in range(min(job.max_tokens, job.context + 1 - len(prompt))):  # the last token is not fed back
        logits = engine.next_logits(ids)
        new = sampler.choose(logits, ids, len(prompt))
        scored = [] if job.top is None else [score_token(logits, new, job.top)]
        if new in engine.ends:
            # OpenAI's servers leave the end token out of the text; with `echo`, lm-eval needs its entry.
            yield Piece(0, stream.finish(), scored if job.echo else (), 1, "stop")
            return
        ids.append(new)
        text = stream.push(new)
        yield Piece(0, text, scored, 1, "stop" if stream.stopped else None)
        if stream.stopped:
            return
    yield Piece(0, stream.finish(), finish="length")
