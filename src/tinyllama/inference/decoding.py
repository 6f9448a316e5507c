"""Continuations for tasks that read what a model writes: greedy as lm-eval's HFLM, or several samples at once.

Shapes in comments: B continuations, T tokens, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from tinyllama.model import KeyValueCache

if TYPE_CHECKING:
    from torch import Tensor

    from tinyllama.model import Llama
    from tinyllama.tokenizer.base import Tokenizer


class Decoding(NamedTuple):
    """When to stop, and how to choose."""

    stops: tuple[str, ...]
    """A continuation ends before the first of these."""
    room: int
    """New tokens at most; the prompt is cut from the left to leave that many in the context."""
    temperature: float = 0.0
    """0 takes the most likely token."""
    top_p: float = 1.0
    """Sample among the fewest most likely tokens that together have this probability."""


@torch.inference_mode()
def decode(  # noqa: PLR0913  # what a continuation depends on
    model: Llama, tokenizer: Tokenizer, prompt: list[int], settings: Decoding, *, samples: int = 1, seed: int = 0
) -> list[str]:
    """Continue a prompt `samples` times, side by side; the prompt is read once.

    Args:
        model: on any device, in any precision.
        tokenizer: decodes the continuations; its EOS ends one.
        prompt: ids, BOS included where the model expects it.
        settings: see `Decoding`.
        samples: how many continuations.
        seed: of the sampling.
    """
    context, device = model.shape.context, model.embed_tokens.weight.device
    room = min(settings.room, context - 1)
    generator = torch.Generator(device).manual_seed(seed)
    cache = KeyValueCache(model.shape.layers, capacity=min(len(prompt) + room, context))
    state = model.hidden(torch.tensor([prompt[-(context - room) :]], device=device), cache=cache)[:, -1]
    state = state.expand(samples, -1)
    cache.repeat(samples)
    ids: list[list[int]] = [[] for _ in range(samples)]
    texts, open_ones = [""] * samples, set(range(samples))
    for step in range(room):
        chosen = _choose(model.lm_head(state).float(), settings, generator)  # [B]
        for index in sorted(open_ones):
            new = int(chosen[index])
            if new == tokenizer.eos_id:
                open_ones.discard(index)
                continue
            ids[index].append(new)
            texts[index] = tokenizer.decode(ids[index])
            if any(stop in texts[index] for stop in settings.stops):
                open_ones.discard(index)
        if not open_ones or step == room - 1:
            break
        state = model.hidden(chosen[:, None], cache=cache)[:, -1]
    return [min((text.split(stop)[0] for stop in settings.stops if stop), key=len, default=text) for text in texts]


def _choose(logits: Tensor, settings: Decoding, generator: torch.Generator) -> Tensor:
    """Logits [B, V] → ids [B]."""
    if settings.temperature == 0:
        return logits.argmax(-1)
    probabilities = (logits / settings.temperature).softmax(-1)
    if settings.top_p < 1:
        falling, order = probabilities.sort(-1, descending=True)
        falling[falling.cumsum(-1) - falling > settings.top_p] = 0.0  # the most likely token always stays
        probabilities = torch.zeros_like(probabilities).scatter(-1, order, falling)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]
