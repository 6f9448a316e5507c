"""How the next token is chosen: pure functions on logits, with transformers' semantics and order.

Shapes in comments: B texts, V vocabulary, T tokens so far, N tokens of an n-gram.
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
    min_p: float = 0.0
    """Sample among the tokens with at least this fraction of the most likely one's probability."""
    typical_p: float = 1.0
    """Sample among the tokens of the most typical information content that together have this probability."""
    no_repeat_ngram_size: int = 0
    """No sequence of this many tokens occurs twice in prompt and text; 0 allows all."""
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    """Sequences of tokens that the new text never completes."""

    def __post_init__(self) -> None:
        ranges = (
            ("temperature", self.temperature >= 0, "0 (greedy) or more"),
            ("top_k", self.top_k >= 0, "0 (all tokens) or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("repetition_penalty", 0.01 <= self.repetition_penalty <= 100, "0.01 to 100"),
            ("min_p", 0 <= self.min_p <= 1, "0 to 1"),
            ("typical_p", 0 < self.typical_p <= 1, "above 0 and at most 1"),
            ("no_repeat_ngram_size", self.no_repeat_ngram_size >= 0, "0 (all repetitions) or more"),
            ("bad_words_ids", all(word and min(word) >= 0 for word in self.bad_words_ids), "sequences of token ids"),
        )
        for name, holds, rule in ranges:
            if not holds:
                raise UserError(f"{name} is {getattr(self, name)}, but must be {rule}")

    def changed(self, **settings: float | tuple[tuple[int, ...], ...] | None) -> Sampling:
        """The same with other settings; those that are None stay."""
        return Sampling(**{**asdict(self), **{name: value for name, value in settings.items() if value is not None}})

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is taken: also at temperatures that would make the logits overflow."""
        return self.temperature < _GREEDY_BELOW


CARD_SAMPLING = Sampling(top_k=10, repetition_penalty=1.5)
"""Of the quick start in the model card of TinyLlama v1.1."""


def process(logits: Tensor, seen: Tensor, settings: Sampling) -> Tensor:
    """Logits [..., V] → logits [..., V] to sample from, by the settings in transformers' order.

    Args:
        logits: of the next token, fp32.
        seen: ids of prompt and text so far [..., T]; -1 before the first token of a text that is shorter than others.
        settings: greedy settings apply the penalty and the bans alone.
    """
    if settings.repetition_penalty != 1:
        logits = penalize_repetition(logits, seen, settings.repetition_penalty)
    if settings.no_repeat_ngram_size:
        logits = ban_repeated_ngrams(logits, seen, settings.no_repeat_ngram_size)
    for word in settings.bad_words_ids:
        logits = ban_word(logits, seen, word)
    if settings.greedy:
        return logits
    if settings.temperature != 1:
        logits = logits / settings.temperature
    if settings.top_k:
        logits = keep_top_k(logits, settings.top_k)
    if settings.top_p < 1:
        logits = keep_top_p(logits, settings.top_p)
    if settings.min_p:
        logits = keep_min_p(logits, settings.min_p)
    if settings.typical_p < 1:
        logits = keep_typical(logits, settings.typical_p)
    return logits


def choose(logits: Tensor, settings: Sampling, generator: torch.Generator) -> Tensor:
    """Processed logits [B, V] → token ids [B]; greedy takes the first of the most likely ones.

    Raises:
        UserError: every token of a text is banned.
    """
    bans = settings.no_repeat_ngram_size or settings.bad_words_ids
    if bans and bool(logits.isneginf().all(-1).any()):
        raise UserError("every token is banned, so the text cannot continue; raise no_repeat_ngram_size or ban less")
    if settings.greedy:
        return logits.argmax(-1)
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]


def penalize_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Divide positive logits of seen tokens by the penalty, multiply negative ones (Keskar et al. 2019).

    Once per token, however often it was seen.
    """
    seen = torch.where(seen < 0, seen[..., -1:], seen)  # the last token is one of the text's
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


def keep_min_p(logits: Tensor, fraction: float) -> Tensor:
    """Set tokens to -inf that have less than this fraction of the largest probability (Nguyen et al. 2024)."""
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities < fraction * probabilities.amax(-1, keepdim=True), -torch.inf)


def keep_typical(logits: Tensor, probability: float) -> Tensor:
    """Locally typical sampling (Meister et al. 2023): information content nearest to the entropy is kept.

    Tokens as far from it as the last kept one stay too.
    """
    log_probabilities = logits.log_softmax(-1)
    entropy = -(log_probabilities * log_probabilities.exp()).nansum(-1, keepdim=True)
    distance, order = (-log_probabilities - entropy).abs().sort()
    mass = logits.gather(-1, order).softmax(-1).cumsum(-1)
    last = (mass < probability).sum(-1, keepdim=True).clamp(max=logits.shape[-1] - 1)
    tail = distance > distance.gather(-1, last)
    return logits.masked_fill(tail.scatter(-1, order, tail), -torch.inf)


def ban_repeated_ngrams(logits: Tensor, seen: Tensor, size: int) -> Tensor:
    """Set tokens to -inf that would complete a sequence of `size` tokens that was seen (Paulus et al. 2017)."""
    if seen.shape[-1] < size:
        return logits
    begun = seen[..., seen.shape[-1] + 1 - size :]  # [..., N - 1]
    grams = seen.unfold(-1, size, 1)  # [..., T - N + 1, N]
    repeats = (grams[..., :-1] == begun[..., None, :]).all(-1) & (grams[..., -1] >= 0)
    spare = logits.shape[-1]  # the column for grams that ban nothing
    banned = logits.new_zeros(*logits.shape[:-1], spare + 1, dtype=torch.bool)
    banned.scatter_(-1, torch.where(repeats, grams[..., -1], spare), value=True)
    return logits.masked_fill(banned[..., :spare], -torch.inf)


def ban_word(logits: Tensor, seen: Tensor, word: tuple[int, ...]) -> Tensor:
    """Set the last token of a word to -inf where the tokens before it were just seen."""
    *begun, last = word
    if len(begun) > seen.shape[-1] or last >= logits.shape[-1]:
        return logits
    completes = (seen[..., seen.shape[-1] - len(begun) :] == seen.new_tensor(begun)).all(-1)
    banned = logits.clone()
    banned[..., last] = torch.where(completes, -torch.inf, logits[..., last])
    return banned
