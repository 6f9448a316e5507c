"""The shape of a model: a Llama decoder's dimensions and its rotary positions."""

from __future__ import annotations

from ctypes import c_float
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tinyllama.recipe.classification import Absent, Derived
from tinyllama.recipe.quantities import Flag, Number
from tinyllama.recipe.section import Dimension, Section, WrongKey

_Positive = Annotated[Number, Field(gt=0)]


class RopeScaling(Section):
    """How rotary positions are scaled to a longer context; the kinds and their defaults are those of transformers."""

    kind: Literal["linear", "dynamic", "llama3", "yarn"]
    """Stretches all waves (`linear`: Chen 2023), the base beyond the context (`dynamic`), long waves alone (`llama3`:
    Llama 3.1 and 3.2) or slow pairs alone (`yarn`: Peng 2023)."""
    factor: Annotated[Number, Field(ge=1)]
    """Tokens of the longer context per token of the original one."""
    original_context: Annotated[Dimension | None, Absent(None)] = None
    """For `llama3` and `yarn`: tokens of a sequence before the context was extended (default: the model's context)."""
    low_freq_factor: Annotated[_Positive, Absent(1.0)] = 1.0
    """For `llama3`: waves of more tokens than `original_context` over this are stretched by `factor`."""
    high_freq_factor: Annotated[_Positive, Absent(4.0)] = 4.0
    """For `llama3`: waves of fewer tokens than `original_context` over this stay; between the two, both are mixed."""
    beta_fast: Annotated[_Positive, Absent(32.0)] = 32.0
    """For `yarn`: number of turns in `original_context` above which a pair stays."""
    beta_slow: Annotated[_Positive, Absent(1.0)] = 1.0
    """For `yarn`: number of turns in `original_context` below which a pair is slowed by `factor`."""
    attention_factor: Annotated[_Positive | None, Absent(None)] = None
    """For `yarn`: multiplies the norm of rotated queries and keys (default: 0.1 ln(factor) + 1)."""

    @model_validator(mode="after")
    def _of_one_kind(self) -> RopeScaling:
        for key in self.model_fields_set - _KEYS[self.kind] - {"kind", "factor"}:
            if getattr(self, key) != type(self).model_fields[key].default:
                raise WrongKey(f"kind {self.kind} has no {key}; remove it", key)
        if self.kind == "llama3" and self.high_freq_factor <= self.low_freq_factor:
            raise WrongKey("high_freq_factor must be above low_freq_factor", "high_freq_factor")
        if self.kind == "yarn" and self.beta_fast <= self.beta_slow:
            raise WrongKey("beta_fast must be above beta_slow", "beta_fast")
        return self


_KEYS: dict[str, set[str]] = {
    "linear": set(),
    "dynamic": set(),
    "llama3": {"original_context", "low_freq_factor", "high_freq_factor"},
    "yarn": {"original_context", "beta_fast", "beta_slow", "attention_factor"},
}
"""Keys that only some kinds have."""


class ModelShape(Section):
    """A Llama 2 decoder: RMSNorm, RoPE, grouped-query attention, SwiGLU, no biases."""

    layers: Dimension
    """Number of blocks."""
    width: Dimension
    """Dimension of the hidden states."""
    ffn: Dimension
    """Inner dimension of the SwiGLU feed-forward layers."""
    heads: Dimension
    """Number of query heads."""
    kv_heads: Dimension
    """Number of key-value heads, a divisor of `heads`."""
    head_dim: Annotated[Dimension | None, Absent(None)] = None
    """Dimension of a head, an even number (default: `width` / `heads`)."""
    context: Dimension
    """Tokens per training sequence."""
    vocab_size: Annotated[Dimension, Derived("the tokenizer's, if it is trained or builtin")]
    """Number of embeddings: the tokenizer's number of ids, or more with an imported tokenizer."""
    rope_theta: _Positive = 10000.0
    """Base of the rotary position embeddings."""
    rope_scaling: Annotated[RopeScaling | None, Absent(None)] = None
    """How positions are scaled to a longer context (default: not)."""
    norm_eps: _Positive = 1e-5
    """Epsilon of RMSNorm."""
    tied_embeddings: Flag = False
    """Whether the output head shares the input embedding's matrix."""

    @property
    def head_size(self) -> int:
        """Dimension of a head."""
        return self.head_dim or self.width // self.heads

    @property
    def attention_width(self) -> int:
        """Dimension of all query heads together."""
        return self.heads * self.head_size

    @property
    def scaled_positions(self) -> str:
        """How positions are scaled, in words that follow others; empty if they are not."""
        scaling = self.rope_scaling
        return f", RoPE scaled by {scaling.factor:g} ({scaling.kind})" if scaling else ""

    @property
    def in_fp32(self) -> ModelShape:
        """The shape with its fractions rounded to fp32, the precision that models compute with and GGUF files store.

        Two shapes that are equal in it are one model: configurations on the hub spell 1e-05 also as
        9.999999747378752e-06.
        """
        scaling = self.rope_scaling
        scaled = None if scaling is None else scaling.model_copy(update=_in_fp32(scaling))
        return self.model_copy(update={"rope_scaling": scaled} | _in_fp32(self))

    @property
    def block_matrices(self) -> int:
        """Number of weights in the matrices of all blocks: attention and feed-forward, without norms."""
        attention = 2 * self.width * (self.attention_width + self.kv_heads * self.head_size)
        return self.layers * (attention + 3 * self.width * self.ffn)

    @property
    def saved_per_token(self) -> int:
        """Number of activations that a block saves per token for the backward pass, in bf16.

        These are the inputs of the two norms, of the query-key-value and gate-up projections, of attention (query,
        key, value) and of the output projection, and gate, up and their product in the feed-forward layer.
        """
        return 4 * self.width + 2 * self.attention_width + 2 * self.kv_heads * self.head_size + 3 * self.ffn

    @property
    def parameters(self) -> int:
        """Number of weights: embeddings, blocks, final norm and (untied) head."""
        tables = 1 if self.tied_embeddings else 2
        norms = (2 * self.layers + 1) * self.width
        return self.block_matrices + norms + tables * self.vocab_size * self.width

    @property
    def flops_per_token(self) -> int:
        """Training FLOPs per token: 6·(parameters - input embedding) + 6·layers·heads·head size·context (causal)."""
        matrices = self.parameters - (0 if self.tied_embeddings else self.vocab_size * self.width)
        return 6 * matrices + 6 * self.layers * self.attention_width * self.context

    @property
    def flops_without_embeddings(self) -> int:
        """Training FLOPs per token of blocks and attention alone, as DeepSeek LLM counts them."""
        return 6 * self.block_matrices + 6 * self.layers * self.attention_width * self.context

    @field_validator("head_dim")
    @classmethod
    def _stated_if_special(cls, value: int | None, info: ValidationInfo) -> int | None:
        """None for the default, which is the same model whether it is stated or not."""
        width, heads = info.data.get("width"), info.data.get("heads")
        return None if value is not None and heads and value * heads == width else value

    @model_validator(mode="after")
    def _divides(self) -> ModelShape:
        if self.head_dim is None and (self.width % self.heads or (self.width // self.heads) % 2):
            raise ValueError(
                f"width {self.width} must be heads ({self.heads}) times an even head size, or write head_dim"
            )
        if self.head_size % 2:
            raise WrongKey(f"head_dim is {self.head_dim}, but must be even", "head_dim")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        return self


def _in_fp32(section: Section) -> dict[str, float]:
    """A section's fractions, rounded to fp32."""
    return {key: c_float(value).value for key, value in section if isinstance(value, float)}
