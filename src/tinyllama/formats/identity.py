"""What tells one model from all others; imports no torch, for readers of records."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelIdentity:
    """What distinguishes one model from all others."""

    kind: str
    """`folder` (Hugging Face), `gguf` or `checkpoint`."""
    sha256: str | None
    """Of config and weights, of the GGUF file, or of the checkpoint's manifest; None where a record of an earlier
    version does not state it."""
    adds_bos: bool | None
    """Whether prompts begin with BOS; None where a record of an earlier version does not state it."""
    stored_dtype: str | None = None
    """Precision of the stored weights; types joined by `+` if there are several."""
    recipe: str | None = None
    """Of a checkpoint of ours, as are the following fields."""
    model: str | None = None
    step: int | None = None
    """Optimizer steps that it was trained for."""
    tokens: int | None = None
    """Tokens that it was trained on."""
    fingerprint: str | None = None
    parameters: int | None = None
    """Number of weights; None where a record of an earlier version does not state it."""
