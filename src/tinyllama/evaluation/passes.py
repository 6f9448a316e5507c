"""How many rows of a batch one pass computes: by a rule on CPUs, within the free memory of an accelerator elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from tinyllama.model.devices import unused_memory

if TYPE_CHECKING:
    import torch

    from tinyllama.model import Llama
    from tinyllama.recipe import ModelShape

_TOKENS = {"cpu": 1024, "cuda": 32768}
"""Of a pass, padded. CPUs prefer small passes, whose rows have nearly one length; more would not keep GPUs busier."""
_PAIRS = {"cpu": 1 << 20, "cuda": 1 << 26}
"""Of tokens in one row, padded: a mask has a number for each; other GPUs hold all scores of attention."""
_OTHER_PAIRS = 1 << 22
_SHARE = 0.25
"""Of free memory, for tokens and as much for pairs, so that half stays for the head and for fragmentation."""


class PassLimits(NamedTuple):
    """What a pass may hold at most."""

    tokens: int
    """Padded to the longest row."""
    pairs: int
    """Of tokens in the same row, padded."""
    rows: int | None = None
    """In place of both, if it is stated."""
    most: int = sys.maxsize
    """Tokens that were seen to fit."""

    def rows_of(self, length: int) -> int:
        """Rows of a pass whose longest row has this many tokens; at least 1."""
        asked = self.rows or min(self.tokens, self.pairs // length) // length
        return max(1, min(asked, self.most // length))

    def half_of(self, rows: int, length: int) -> PassLimits:
        """The limits after a pass of some rows was out of memory."""
        return self._replace(most=rows // 2 * length)


def pass_limits(model: Llama, rows: int | None = None) -> PassLimits:
    """The limits of a model's passes on its device, as much of whose memory is free as now.

    Args:
        model: that is scored without gradients.
        rows: of a pass, if they are stated.
    """
    weight = model.embed_tokens.weight
    device: torch.device = weight.device
    tokens, pairs = _TOKENS.get(device.type, _TOKENS["cuda"]), _PAIRS.get(device.type, _OTHER_PAIRS)
    free = unused_memory(device)
    if free is None:
        return PassLimits(tokens, pairs, rows)
    return within_memory(PassLimits(tokens, pairs, rows), model.shape, weight.element_size(), free)


def within_memory(limits: PassLimits, shape: ModelShape, element: int, free: int) -> PassLimits:
    """Limits that need at most half of the free memory.

    A token needs four vectors of the model's width in attention and three of the FFN's width at a time; a pair needs
    its place in the mask, as a Boolean and as a number that is added.

    Args:
        limits: of an accelerator with memory to spare.
        shape: of the model.
        element: bytes of an activation.
        free: bytes.
    """
    tokens = int(free * _SHARE) // ((4 * shape.width + 3 * shape.ffn) * element)
    pairs = int(free * _SHARE) // (1 + element)
    return limits._replace(tokens=min(limits.tokens, tokens), pairs=min(limits.pairs, pairs))
