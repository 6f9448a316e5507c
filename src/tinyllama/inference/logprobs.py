"""Log-probabilities of tokens, by the model's own logits.

Shapes: V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_IMPOSSIBLE = -9999.0
"""Stands for minus infinity, which JSON lacks, as in OpenAI's answers."""


class ScoredToken(NamedTuple):
    """A token with its log-probability in nats."""

    token: int
    logprob: float | None
    """None for the first token of a prompt, which nothing predicts."""
    top: tuple[tuple[int, float], ...]
    """The most likely tokens of its place, most likely first."""


def score_token(logits: NDArray[np.float32], token: int, top: int) -> ScoredToken:
    """Score a token at a place with these logits [V], with the `top` most likely ones; the first of equals is first."""
    wide = logits.astype(np.float64)
    largest = wide.max()
    total = largest + np.log(np.exp(wide - largest).sum())
    likeliest = [(int(other), _finite(wide[other] - total)) for other in _largest(wide, top)]
    return ScoredToken(token, _finite(wide[token] - total), tuple(likeliest))


def _largest(values: NDArray[np.float64], count: int) -> Sequence[np.int64]:
    """Indices of the largest values, largest first."""
    if count <= 1:  # what lm-eval asks for, and many times faster
        return [values.argmax()][:count]
    least = np.partition(values, -count)[-count] if count < len(values) else -np.inf
    (candidates,) = (values >= least).nonzero()
    return list(candidates[np.argsort(-values[candidates], kind="stable")][:count])


def _finite(logprob: float) -> float:
    return max(float(logprob), _IMPOSSIBLE)
