"""Published rules for the numbers of a recipe, each a pure function with its source."""

from __future__ import annotations

import math
from typing import NamedTuple

TOKENS_PER_PARAMETER = 20.0
"""Of compute-optimal training (Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models", table 3)."""
_WARMUP_STEPS, _WARMUP_SHARE = 2000, 0.05
LEARNING_RATE_EXPONENT, BATCH_EXPONENT = -0.1250, 0.3271
"""Of the compute (Bi et al. 2024, "DeepSeek LLM", equation 1)."""
OPTIMIZER = "muon"
"""At its best peak, fewer bits per byte than AdamW after equal tokens (docs/results/optimizer); with AdamW's learning
rates, half of its compute for the same loss (Liu et al. 2025, "Muon is Scalable for LLM Training")."""


class LossFit(NamedTuple):
    """A fit of the final loss in nats a token: E + (A/N^alpha + B/D^beta)^gamma, of N parameters and D tokens.

    With gamma 1 it is the law of Hoffmann et al. 2022 (equation 10), whose two terms are independent. With E 0 and beta
    1 it has the form of Kaplan et al. 2020 ("Scaling Laws for Neural Language Models", equation 1.5), in which a small
    model gains less from more tokens than a large one. There, D is the size of a text and N has no embeddings; here, D
    is the tokens of a training.
    """

    name: str
    irreducible: float
    """E."""
    parameters: float
    """A."""
    tokens: float
    """B."""
    alpha: float
    beta: float
    smallest: int
    """Parameters of the smallest model that was fitted."""
    fewest: int
    """Tokens of the shortest training that was fitted."""
    largest: float = math.inf
    """Parameters of the largest model that was fitted, if the fit is known to end there."""
    most: float = math.inf
    """Tokens of the longest training that was fitted, likewise."""
    gamma: float = 1.0

    @property
    def is_joint(self) -> bool:
        """Whether it has the form of Kaplan et al. 2020, and not that of Hoffmann et al. 2022."""
        return self.gamma != 1

    def loss(self, parameters: float, tokens: float) -> float:
        """The expected loss in nats a token, of the text and the tokenizer of the fit."""
        of_size = self.parameters * math.pow(parameters, -self.alpha)
        return self.irreducible + math.pow(of_size + self.tokens * math.pow(tokens, -self.beta), self.gamma)

    def covers(self, parameters: float, tokens: float, margin: float = 1.0) -> bool:
        """Whether models of such a size and trainings of such a length were fitted.

        Args:
            parameters: of the model.
            tokens: of its training.
            margin: factor by which both may lie beyond what was fitted.
        """
        is_size = self.smallest <= margin * parameters <= margin**2 * self.largest
        return is_size and self.fewest <= margin * tokens <= margin**2 * self.most

    def optimal_tokens(self, parameters: float) -> float:
        """Tokens with which the loss is the lowest of all models that take as much compute.

        For a compute that is a constant times N·D, that is where both terms fall equally fast: alpha · A/N^alpha =
        beta · B/D^beta (Hoffmann et al. 2022, equation 4), whatever gamma is.
        """
        slope = self.alpha * self.parameters * math.pow(parameters, -self.alpha)
        return math.pow(self.beta * self.tokens / slope, 1 / self.beta)


CHINCHILLA = LossFit("Hoffmann et al. 2022", 1.69, 406.4, 410.7, 0.34, 0.28, 44_000_000, 5_000_000_000)
"""Their approach 3 (equation 10): models of 44M to 16B parameters on 5B to 500B tokens of MassiveText."""


def optimal_tokens(parameters: float, over_training: float = 1.0) -> float:
    """Tokens to train a model of `parameters` parameters on.

    With `over_training` 1 the compute is spent so that the loss is lowest (Hoffmann et al. 2022). More tokens give a
    better model of the same size, whose use costs less than that of a larger one (Touvron et al. 2023, "LLaMA";
    TinyLlama has 1,800 tokens per parameter). How many more is a choice.
    """
    return TOKENS_PER_PARAMETER * over_training * parameters


def peak_learning_rate(flops: float) -> float:
    """Peak of the learning rate for a training of `flops` FLOPs.

    0.3118 · C^-0.1250 (Bi et al. 2024, "DeepSeek LLM", equation 1), fitted for AdamW; Muon's updates have the same
    size. Its C counts no embeddings, and attention.
    """
    return 0.3118 * math.pow(flops, LEARNING_RATE_EXPONENT)


def batch_tokens(flops: float) -> float:
    """Tokens of a batch for a training of `flops` FLOPs.

    0.2920 · C^0.3271 (Bi et al. 2024, "DeepSeek LLM", equation 1). Its C counts no embeddings, and attention.
    """
    return 0.2920 * math.pow(flops, BATCH_EXPONENT)


def warmup_tokens(batch: int, total: int) -> int:
    """Tokens of the linear warm-up: 2,000 steps (Touvron et al. 2023, "LLaMA"; DeepSeek LLM), at most 5% of all."""
    return min(_WARMUP_STEPS * batch, math.ceil(_WARMUP_SHARE * total))


def optimal_vocabulary(other_parameters: float, width: int) -> float:
    """Number of ids for a model with `other_parameters` besides its vocabulary's, of `width` each.

    Vocabulary parameters 3.1M · (N/33M)^0.835 (Tao et al. 2024, "Scaling Laws with Vocabulary", approach 2, for 33M to
    1.13B other parameters).
    """
    return 3_145_728 * math.pow(other_parameters / 33e6, 0.8354) / width
