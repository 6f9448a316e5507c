"""Whether a tokenizer can be a model's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.errors import EvaluationError

if TYPE_CHECKING:
    from tinyllama.model import Llama
    from tinyllama.tokenizer.base import Tokenizer

_PADDING = 1024
"""Vocabularies are padded to multiples of at most this, for the shapes of matrices."""


def refuse_other_vocabulary(tokenizer: Tokenizer, model: Llama) -> None:
    """Check that a tokenizer can be the model's: an embedding for each id, and no more spare ones than padding.

    Raises:
        EvaluationError: it cannot.
    """
    spare = model.shape.vocab_size - tokenizer.vocab_size
    if not 0 <= spare <= _PADDING:
        raise EvaluationError(
            f"{tokenizer.model_file}: has {tokenizer.vocab_size} ids, but the model {model.shape.vocab_size} "
            "embeddings; evaluate the model with the tokenizer it was trained with"
        )
