"""The one decode loop: token by token, for one prompt or several side by side, with a cache of keys and values.

Shapes in comments: P prompts, B rows (every prompt `samples` times), T positions read, S positions in the cache,
V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tinyllama.errors import UserError
from tinyllama.inference.sampling import Sampling, choose, process
from tinyllama.model import KeyValueCache
from tinyllama.model.attention import kernels_for_any_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from torch import Tensor

    from tinyllama.model import Llama


def decode_batch(  # noqa: PLR0913  # each by name
    model: Llama,
    prompts: Sequence[Sequence[int]],
    settings: Sampling,
    *,
    end_ids: Collection[int],
    max_new_tokens: int,
    seed: int,
    samples: int = 1,
    cache: KeyValueCache | None = None,
    on_logits: Callable[[Tensor], None] = lambda _logits: None,
) -> Iterator[list[int | None]]:
    """Continue several prompts side by side, reading the weights once for all of them.

    Each step yields one new id per row, None for rows whose text has ended. A text ends at the first of three events:
    an id of `end_ids` is chosen (it is not yielded); `max_new_tokens` were yielded; prompt and new tokens fill the
    model's context. Positions beyond the context were never trained, so the text stops there, and the window does not
    slide.

    Prompts may differ in length; greedy texts are those that each prompt has alone, up to rounding.

    Args:
        model: on any device and in any precision; logits are sampled in fp32. On a CPU, `pack` makes it faster.
        prompts: ids of each, at least one and fewer than the context.
        settings: how tokens are chosen.
        end_ids: ids that end a text, of a tokenizer's `end_ids`; none of them ends none.
        max_new_tokens: of every prompt, at most.
        seed: of the sampling; the same arguments give the same ids on the same device. All rows draw from one
            generator, so a text depends on the others in the batch.
        samples: texts for each prompt, which is read once for all of them. The rows are all prompts in order, then
            all prompts again, and so on.
        cache: of the first positions of a single prompt, fewer than all, whose samples are 1; it is extended.
        on_logits: called at each step with the model's own logits [B, V], before the tokens are yielded.

    Raises:
        UserError: a prompt is empty or leaves no room in the context.
    """
    context = model.shape.context
    for prompt in prompts:
        if not 0 < len(prompt) < context:
            raise UserError(
                f"the prompt has {len(prompt)} tokens; the model continues prompts of 1 to {context - 1} tokens "
                f"(its context is {context}): shorten the prompt"
            )
    rooms = [min(max_new_tokens, context - len(prompt)) for prompt in prompts]
    batch = _Batch(model, prompts, max(rooms, default=0), samples, cache)
    generator = torch.Generator(batch.device).manual_seed(seed)

    def step() -> list[int]:
        logits, chosen = batch.step(settings, generator)
        on_logits(logits)
        return chosen

    return _continue(step, rooms * samples, end_ids)


def _continue(
    choose_next: Callable[[], list[int]], rooms: list[int], end_ids: Collection[int]
) -> Iterator[list[int | None]]:
    ended = [room == 0 for room in rooms]
    step = 0
    while not all(ended):
        chosen = choose_next()
        step += 1
        ended = [end or new in end_ids for end, new in zip(ended, chosen, strict=True)]
        if all(ended):
            return
        yield [None if end else new for end, new in zip(ended, chosen, strict=True)]
        ended = [end or step == room for end, room in zip(ended, rooms, strict=True)]


class _Batch:
    """Rows of prompt and text so far, padded on the left to one length, and the cache of the positions read."""

    def __init__(
        self, model: Llama, prompts: Sequence[Sequence[int]], room: int, samples: int, cache: KeyValueCache | None
    ) -> None:
        self.model, self.samples, self.device = model, samples, model.embed_tokens.weight.device
        self.length = max(map(len, prompts), default=0)
        padding = [self.length - len(prompt) for prompt in prompts]
        rows = [[prompt[0]] * pad + list(prompt) for prompt, pad in zip(prompts, padding, strict=True)]
        self.ids = torch.zeros(len(prompts) * samples, self.length + room, dtype=torch.long, device=self.device)
        self.ids[:, : self.length] = torch.tensor(rows * samples, device=self.device)
        self.cache = KeyValueCache(model.shape.layers, self.length + room) if cache is None else cache
        self.pads = torch.tensor(padding, device=self.device) if any(padding) else None  # [P], later [B]

    @torch.inference_mode()
    def step(self, settings: Sampling, generator: torch.Generator) -> tuple[Tensor, list[int]]:
        """Read the unread positions; returns the logits [B, V] after the last, and the next token of each row."""
        with kernels_for_any_shape(self.device):
            state = self._read() if self.cache.length else self._read_prompts()
        logits = self.model.lm_head(state).float()
        chosen = choose(process(logits, self._seen(), settings), settings, generator)
        self.ids[:, self.length] = chosen
        self.length += 1
        new: list[int] = chosen.tolist()
        return logits, new

    def _seen(self) -> Tensor:
        """Ids of prompt and text so far [B, T]; -1 for padding."""
        seen = self.ids[:, : self.length]
        if self.pads is None:
            return seen
        return seen.masked_fill(torch.arange(self.length, device=self.device) < self.pads[:, None], -1)

    def _read_prompts(self) -> Tensor:
        """Read each prompt once, then repeat its state for `samples` rows: [B, D]."""
        rows, self.ids = self.ids, self.ids[: len(self.ids) // self.samples]
        state = self._read()
        self.ids = rows
        if self.samples > 1:
            state = state.repeat(self.samples, 1)
            self.cache.repeat(self.samples)
            self.pads = None if self.pads is None else self.pads.repeat(self.samples)
        return state

    def _read(self) -> Tensor:
        """States after the last position of each row; the head sees that position alone."""
        read = self.cache.length
        unread = self.ids[:, read : self.length]
        if self.pads is None:
            hidden = self.model.hidden(unread, cache=self.cache)
        else:
            slots = torch.arange(self.length, device=self.device)
            positions = (slots[read:] - self.pads[:, None]).clamp(min=0)[:, None]  # [B, 1, T]
            hidden = self.model.hidden(unread, self._mask(slots, read, self.pads), self.cache, positions)
        last: Tensor = hidden[:, -1]
        return last

    @staticmethod
    def _mask(slots: Tensor, read: int, pads: Tensor) -> Tensor:
        """Where the unread positions may look: [B, 1, T, S].

        A padded position is seen by itself alone, since every position has to look somewhere.
        """
        text = slots[None, None] >= pads[:, None, None]  # [B, 1, S]
        itself = slots[None] == slots[read:, None]  # [T, S]
        earlier = slots[None] <= slots[read:, None]
        return ((text & earlier) | itself)[:, None]
