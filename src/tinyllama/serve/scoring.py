"""Log-probabilities of the tokens inside a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.inference.logprobs import ScoredToken, score_token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyllama.serve.engine import PromptScorer


def score_prompt(engine: PromptScorer, ids: Sequence[int], top: int) -> list[ScoredToken]:
    """Score each token of a prompt given those before it."""
    scored = [ScoredToken(ids[0], None, ())]
    if len(ids) > 1:
        for rows in engine.prompt_logits(ids[:-1], 0):
            scored += [score_token(row, ids[len(scored) + i], top) for i, row in enumerate(rows)]
    return scored
