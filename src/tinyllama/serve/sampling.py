"""How the next token is chosen: our sampler, and the settings that only the API has.

Shapes: V vocabulary.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from tinyllama.inference import Sampling
from tinyllama.inference.sampling import choose, process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from tinyllama.serve.schemas.requests import GenerationRequest

_LEAST_TOP_P = 1e-9
"""What a `top_p` of 0 means: only the most likely token."""


@dataclass(frozen=True)
class ApiSampling:
    """The sampling settings of a request."""

    base: Sampling
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)


def sampling_of(request: GenerationRequest, bias: Mapping[int, float]) -> ApiSampling:
    """The settings of a request whose `logit_bias` has these ids."""
    top_p = max(request.top_p, _LEAST_TOP_P)
    base = Sampling(request.temperature, request.top_k, top_p, request.repeat_penalty, request.min_p)
    return ApiSampling(base, request.presence_penalty, request.frequency_penalty, bias)


class Sampler:
    """Chooses the tokens of one answer."""

    def __init__(self, settings: ApiSampling, generator: torch.Generator) -> None:
        """Sample with these settings and this source of random numbers."""
        self._settings, self._generator = settings, generator

    def choose(self, logits: NDArray[np.float32], ids: Sequence[int], prompt: int) -> int:
        """The next token.

        Args:
            logits: of the model [V].
            ids: prompt and answer so far.
            prompt: how many ids are the prompt's; the penalties of the API count only those after it.
        """
        own = self._settings
        adjusted = torch.from_numpy(logits.copy())
        for token, bias in own.logit_bias.items():
            adjusted[token] += bias
        if own.presence_penalty or own.frequency_penalty:
            for token, count in Counter(ids[prompt:]).items():
                adjusted[token] -= own.presence_penalty + own.frequency_penalty * count
        processed = process(adjusted[None], torch.tensor([ids]), own.base)
        return int(choose(processed, own.base, self._generator))
