"""How the next token is chosen: pure functions on logits, with transformers' semantics and order.

Shapes in comments: B texts, V vocabulary, T tokens so far.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch

from tinyllama.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


_GREEDY_BELOW = 1e-6


@dataclass(frozen=True)
class Sampling:
    """The settings of one generation. By default, tokens are drawn as the model gives their probabilities.

    Raises:
        UserError: a setting is out of its range.
    """

    temperature: float = 1.0
    """Divides the logits. 0 means greedy: the most likely token; top_k and top_p then have no effect."""
    top_k: int = 0
    """Sample among this many most likely tokens; 0 means all."""
    top_p: float = 1.0
    """Sample among the fewest most likely tokens that together have this probability."""
    repetition_penalty: float = 1.0
    """Makes tokens of the prompt and of the text so far less likely; 1 means no penalty."""

    def __post_init__(self) -> None:
        ranges = (
            ("temperature", self.temperature >= 0, "0 (greedy) or more"),
            ("top_k", self.top_k >= 0, "0 (all tokens) or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("repetition_penalty", 0.01 <= self.repetition_penalty <= 100, "0.01 to 100"),
        )
        for name, holds, rule in ranges:
            if not holds:
                raise UserError(f"{name} is {getattr(self, name)}, but must be {rule}")

    def changed(self, **settings: float | None) -> Sampling:
        """The same with other settings; those that are None stay."""
        return Sampling(**{**asdict(self), **{name: value for name, value in settings.items() if value is not None}})

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is taken: also at temperatures that would make the logits overflow."""
        return self.temperature < _GREEDY_BELOW


CARD_SAMPLING = Sampling(top_k=10, repetition_penalty=1.5)
"""Of the quick start in the model card of TinyLlama v1.1."""


def process(logits: Tensor, seen: Tensor, settings: Sampling) -> Tensor:
    """Logits [..., V] → logits [..., V] to sample from: penalty, then temperature, top_k and top_p.

    Args:
        logits: of the next token, fp32.
        seen: ids of prompt and text so far [..., T].
        settings: greedy settings apply the penalty alone.
    """
    if settings.repetition_penalty != 1:
        logits = penalize_repetition(logits, seen, settings.repetition_penalty)
    if settings.greedy:
        return logits
    if settings.temperature != 1:
        logits = logits / settings.temperature
    if settings.top_k:
        logits = keep_top_k(logits, settings.top_k)
    if settings.top_p < 1:
        logits = keep_top_p(logits, settings.top_p)
    return logits


def choose(logits: Tensor, settings: Sampling, generator: torch.Generator) -> Tensor:
    """Processed logits [B, V] → token ids [B]; greedy takes the first of the most likely ones."""
    if settings.greedy:
        return logits.argmax(-1)
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]


def penalize_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Divide positive logits of seen tokens by the penalty, multiply negative ones (Keskar et al. 2019).

    Once per token, however often it was seen.
    """
    of_seen = logits.gather(-1, seen)
    return logits.scatter(-1, seen, torch.where(of_seen < 0, of_seen * penalty, of_seen / penalty))


def keep_top_k(logits: Tensor, count: int) -> Tensor:
    """Set all but the `count` largest logits to -inf; those equal to the smallest kept one stay too."""
    smallest_kept = logits.topk(min(count, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < smallest_kept, -torch.inf)


def keep_top_p(logits: Tensor, probability: float) -> Tensor:
    """Nucleus sampling (Holtzman et al. 2019): set the tail to -inf whose mass is at most 1 - `probability`.

    The most likely token always stays.
    """
    ascending, order = logits.sort()
    tail = ascending.softmax(-1).cumsum(-1) <= 1 - probability
    tail[..., -1] = False
    return logits.masked_fill(tail.scatter(-1, order, tail), -torch.inf)
