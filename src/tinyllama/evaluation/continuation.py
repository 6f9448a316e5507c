"""Continuations for tasks that read what a model writes, by the conventions of lm-eval's HFLM.

The prompt is cut from the left to leave room for the continuation, and new tokens are decoded without the prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tinyllama.inference import Sampling, decode_batch, stream_batch

if TYPE_CHECKING:
    from tinyllama.model import Llama
    from tinyllama.tokenizer.base import Tokenizer


class Continuation(NamedTuple):
    """How a task wants its prompts continued."""

    stops: tuple[str, ...]
    """A continuation ends before the first of these."""
    max_new_tokens: int
    temperature: float = 0.0
    """0 takes the most likely token."""
    top_p: float = 1.0
    """Sample among the fewest most likely tokens that together have this probability."""

    @property
    def sampling(self) -> Sampling:
        """The same for the sampler: no penalty, no top-k."""
        return Sampling(temperature=self.temperature, top_k=0, top_p=self.top_p, repetition_penalty=1.0)

    def prompt_room(self, context: int) -> int:
        """Ids of a prompt that leave room for the new tokens in a context; those before them are cut."""
        return context - min(self.max_new_tokens, context - 1)


def continue_ids(  # noqa: PLR0913  # what a continuation depends on
    model: Llama, tokenizer: Tokenizer, prompt: list[int], asked: Continuation, *, samples: int = 1, seed: int = 0
) -> list[str]:
    """Continue a prompt `samples` times, side by side.

    Args:
        model: on any device, in any precision.
        tokenizer: decodes the continuations; its `end_ids` end one.
        prompt: ids, BOS included where the model expects it.
        asked: when to stop, and how to choose.
        samples: how many continuations.
        seed: of the sampling.
    """
    context = model.shape.context
    kept = prompt[-asked.prompt_room(context) :]
    room = min(asked.max_new_tokens, context - 1)
    steps = decode_batch(
        model, [kept], asked.sampling, end_ids=tokenizer.end_ids, max_new_tokens=room, seed=seed, samples=samples
    )
    stops = tuple(stop for stop in asked.stops if stop)
    pieces = stream_batch(tokenizer, [[]] * samples, steps, stops)
    return list(map("".join, zip(*pieces, strict=True)))
