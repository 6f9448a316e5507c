"""Keys that affect the weights: shape, optimizer, stages, start and spikes."""

from __future__ import annotations

from ctypes import c_float
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tinyllama.recipe.classification import DECIDES_NOTHING, RepresentedBy
from tinyllama.recipe.quantities import BatchSize, Count, Flag, Number, format_count
from tinyllama.recipe.section import Dimension, Name, PathText, PositiveCount, Section

ADAMW_STATE, MUON_STATE = ("exp_avg", "exp_avg_sq"), ("momentum_buffer",)
"""Names of the moments that each optimizer keeps per weight."""
MUON_MOMENTUM = 0.95
"""Nesterov momentum of Muon (Jordan 2024)."""
_STATE_BYTES = 4
"""Bytes per number in a moment (fp32)."""
_Decay = Annotated[Number, Field(ge=0, lt=1)]


class ModelShape(Section):
    """A Llama 2 decoder: RMSNorm, RoPE, grouped-query attention, SwiGLU, no biases."""

    layers: Dimension
    """Number of blocks."""
    width: Dimension
    """Dimension of the hidden states, a multiple of twice `heads`."""
    ffn: Dimension
    """Inner dimension of the SwiGLU feed-forward layers."""
    heads: Dimension
    """Number of query heads."""
    kv_heads: Dimension
    """Number of key-value heads, a divisor of `heads`."""
    context: Dimension
    """Tokens per training sequence."""
    vocab_size: Dimension
    """Number of embeddings: the tokenizer's number of ids, or more with an imported tokenizer."""
    rope_theta: Annotated[Number, Field(gt=0)] = 10000.0
    """Base of the rotary position embeddings."""
    norm_eps: Annotated[Number, Field(gt=0)] = 1e-5
    """Epsilon of RMSNorm."""
    tied_embeddings: Flag = False
    """Whether the output head shares the input embedding's matrix."""

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    @property
    def in_fp32(self) -> ModelShape:
        """The shape with its fractions rounded to fp32, the precision that models compute with and GGUF files store.

        Two shapes that are equal in it are one model: configurations on the hub spell 1e-05 also as
        9.999999747378752e-06.
        """
        return self.model_copy(update={key: c_float(value).value for key, value in self if isinstance(value, float)})

    @property
    def block_matrices(self) -> int:
        """Number of weights in the matrices of all blocks: attention and feed-forward, without norms."""
        attention = 2 * self.width * self.width + 2 * self.width * self.kv_heads * self.head_dim
        return self.layers * (attention + 3 * self.width * self.ffn)

    @property
    def saved_per_token(self) -> int:
        """Number of activations that a block saves per token for the backward pass, in bf16.

        These are the inputs of the two norms, of the query-key-value and gate-up projections, of attention (query,
        key, value) and of the output projection, and gate, up and their product in the feed-forward layer.
        """
        return 6 * self.width + 2 * self.kv_heads * self.head_dim + 3 * self.ffn

    @property
    def parameters(self) -> int:
        """Number of weights: embeddings, blocks, final norm and (untied) head."""
        tables = 1 if self.tied_embeddings else 2
        norms = (2 * self.layers + 1) * self.width
        return self.block_matrices + norms + tables * self.vocab_size * self.width

    @property
    def flops_per_token(self) -> int:
        """Training FLOPs per token: 6·(parameters - input embedding) + 6·layers·width·context (causal)."""
        matrices = self.parameters - (0 if self.tied_embeddings else self.vocab_size * self.width)
        return 6 * matrices + 6 * self.layers * self.width * self.context

    @model_validator(mode="after")
    def _divides(self) -> ModelShape:
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(f"width {self.width} must be heads ({self.heads}) times an even head size")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        return self


class LearningRate(Section):
    """One cosine over tokens with a linear warm-up; a pure function of tokens seen."""

    peak: Annotated[Number, Field(gt=0)]
    """Learning rate at the end of the warm-up."""
    minimum: Annotated[Number, Field(ge=0)]
    """Learning rate at the horizon and after it."""
    warmup: Count
    """Tokens over which the learning rate rises linearly from 0 to the peak."""
    horizon: PositiveCount
    """Tokens at which the cosine reaches the minimum.
    It is a separate key, so that extending a stage does not change the curve."""

    @model_validator(mode="after")
    def _falls(self) -> LearningRate:
        if self.minimum >= self.peak:
            raise ValueError(f"minimum ({self.minimum:g}) must be below peak ({self.peak:g})")
        if self.warmup >= self.horizon:
            raise ValueError(f"warmup ({self.warmup}) must be below horizon ({self.horizon})")
        return self

    def describe(self) -> str:
        """One-line description of the schedule after the warm-up."""
        return f"{self.peak:g} to {self.minimum:g}, one cosine over {format_count(self.horizon)} tokens"


class Optimizer(Section):
    """Decoupled weight decay on every parameter; one learning rate for all."""

    kind: Literal["adamw", "muon"] = "adamw"
    """`adamw`, or `muon` for the blocks' matrices with AdamW for embeddings, head and norms."""
    learning_rate: LearningRate
    """Schedule of the learning rate: a linear warm-up, then one cosine over tokens."""
    betas: tuple[_Decay, _Decay] = (0.9, 0.95)
    """Decay rates of AdamW's two moments."""
    eps: Annotated[Number, Field(gt=0)] = 1e-8
    """Epsilon of AdamW."""
    weight_decay: Annotated[Number, Field(ge=0)] = 0.1
    """Decoupled weight decay of every parameter."""
    clip: Annotated[Number, Field(gt=0)] = 1.0
    """Maximum global norm of the gradients; larger gradients are clipped."""

    def describe(self) -> str:
        """One-line description of the optimizer and its constants."""
        adamw = f"betas {self.betas[0]:g}/{self.betas[1]:g}, eps {self.eps:g}"
        both = f"weight decay {self.weight_decay:g}, clip {self.clip:g}"
        if self.kind == "adamw":
            return f"AdamW, {adamw}, {both}"
        return f"Muon for the blocks' matrices (momentum {MUON_MOMENTUM:g}), AdamW for the rest ({adamw}), {both}"

    def state_names(self, weight: str) -> tuple[str, ...]:
        """Names of the moments per weight; each moment has the weight's shape, in fp32."""
        by_muon = self.kind == "muon" and weight.startswith("layers.") and "norm" not in weight
        return MUON_STATE if by_muon else ADAMW_STATE

    def state_bytes(self, shape: ModelShape) -> int:
        """Bytes of the moments for all weights of a model."""
        by_muon = shape.block_matrices if self.kind == "muon" else 0
        numbers = len(MUON_STATE) * by_muon + len(ADAMW_STATE) * (shape.parameters - by_muon)
        return _STATE_BYTES * numbers


class Stage(Section):
    """A span of tokens with one batch size."""

    name: Annotated[Name, DECIDES_NOTHING]
    """Name of the stage."""
    until: PositiveCount
    """Total tokens at which the stage ends; it ends with the first step that reaches this number."""
    batch: BatchSize
    """Batch size: `880 sequences`, or a number of tokens that is a whole number of sequences."""
    fork: Annotated[bool, RepresentedBy("the shares that were in force")] = False
    """Whether the variants fork from the base at the start of this stage; true for exactly one stage."""
    ramp: Count = 0
    """Tokens over which the shares change linearly from the base's to the variant's; only on the fork stage."""

    @model_validator(mode="after")
    def _ramp_needs_fork(self) -> Stage:
        if self.ramp and not self.fork:
            raise ValueError("ramp is allowed only on the stage with fork: true")
        return self


class Start(Section):
    """A model to start training from instead of random weights."""

    model: Annotated[PathText, RepresentedBy("the hash of its weights")]
    """A Hugging Face folder or hub id, a GGUF file, or a checkpoint (`…/checkpoints/step-<n>`)."""
    tokens: Count
    """Number of tokens that the model has already seen; the plan and its learning rate start there."""
    moments: Literal["fresh", "kept"] = "fresh"
    """The optimizer's moments at the start: zeros, or those of a checkpoint written by TinyLlama."""
    rewarm: Count = 0
    """Tokens over which the learning rate rises linearly from 0 to the schedule's value."""


class Spikes(Section):
    """How to handle loss spikes: steps that would harm the weights, detected before their update.

    A step is a spike if its loss or gradient norm is not finite, or if its loss is more than `sigmas` standard
    deviations above the mean loss of the last `window` updates of its stage. Skipped steps keep their place in the
    plan: their tokens count as seen, and the learning rate of later steps does not change.
    """

    policy: Literal["none", "skip", "rollback-and-skip"] = "none"
    """`none` ignores spikes, `skip` skips the spike's update, `rollback-and-skip` also undoes the preceding steps.
    With `none`, a non-finite loss or gradient ends training. With `rollback-and-skip`, the weights return to the last
    planned checkpoint, and all steps since then are skipped (Chowdhery et al. 2022, "PaLM", section 5.1)."""
    sigmas: Annotated[Number, Field(gt=0)] = 6.0
    """Number of standard deviations above the mean at which a loss counts as a spike."""
    window: Annotated[Count, Field(ge=2, le=10**6)] = 128
    """Number of updates over which the mean and the standard deviation are computed.
    Until a stage has this many updates, only a non-finite loss or gradient counts as a spike."""
