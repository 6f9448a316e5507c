"""Token by token from a model, with a cache of keys and values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tinyllama.errors import UserError
from tinyllama.generate.sampling import Sampling, choose, process
from tinyllama.model import KeyValueCache

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from tinyllama.model import Llama


def generate(  # noqa: PLR0913  # a generation has that many facts
    model: Llama,
    tokens: Tensor,
    settings: Sampling,
    *,
    eos_id: int | None,
    max_new_tokens: int,
    seed: int,
) -> Iterator[int]:
    """Continue a prompt, yielding each new id as soon as it is chosen.

    It ends at the first of three: EOS is chosen (EOS itself is not yielded); `max_new_tokens` were yielded;
    prompt and new tokens together fill the model's context. Positions past the context were never trained,
    so the text stops there instead of sliding the window.

    Args:
        model: on any device and in any precision; logits are sampled in fp32.
        tokens: the prompt [1, T], at least one token and fewer than the context.
        settings: how tokens are chosen.
        eos_id: id that ends the text; None never ends it.
        max_new_tokens: upper bound of what is yielded.
        seed: of the sampling; the same model, prompt, settings, seed and device give the same ids.

    Raises:
        UserError: the prompt is empty or leaves no room in the context.
    """
    length, context = tokens.shape[1], model.shape.context
    if not 0 < length < context:
        raise UserError(
            f"the prompt has {length} tokens; the model continues prompts of 1 to {context - 1} tokens "
            f"(its context is {context}): shorten the prompt"
        )
    count = min(max_new_tokens, context - length)
    return _continue(model, tokens, settings, eos_id=eos_id, count=count, seed=seed)


def _continue(  # noqa: PLR0913  # as generate
    model: Llama, tokens: Tensor, settings: Sampling, *, eos_id: int | None, count: int, seed: int
) -> Iterator[int]:
    device = model.embed_tokens.weight.device
    seen = tokens.to(device)
    unread = seen
    cache = KeyValueCache(model.shape.layers)
    generator = torch.Generator(device).manual_seed(seed)
    for _ in range(count):
        logits = process(_next_logits(model, unread, cache), seen[0], settings)
        chosen = choose(logits, settings, generator)
        if chosen == eos_id:
            return
        yield chosen
        unread = torch.tensor([[chosen]], device=device)
        seen = torch.cat([seen, unread], dim=1)


@torch.no_grad()
def _next_logits(model: Llama, unread: Tensor, cache: KeyValueCache) -> Tensor:
    """Logits after the last unread token, fp32: [1, T] → [V]; the head sees that position alone."""
    logits: Tensor = model.lm_head(model.hidden(unread, cache=cache)[:, -1])
    return logits[0].float()
