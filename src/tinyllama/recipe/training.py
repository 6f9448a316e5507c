"""Keys that decide which weights come out: shape, optimizer, stages, where training starts, and spikes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tinyllama.recipe.classification import DECIDES_NOTHING, RepresentedBy
from tinyllama.recipe.quantities import BatchSize, Count, Number, format_count
from tinyllama.recipe.section import Name, PositiveCount, Section

ADAMW_STATE, MUON_STATE = ("exp_avg", "exp_avg_sq"), ("momentum_buffer",)
"""Names of the moments that an optimizer keeps of a weight."""
MUON_MOMENTUM = 0.95
"""Nesterov momentum of Muon (Jordan 2024)."""
_STATE_BYTES = 4
"""Of a number in a moment: fp32."""


class ModelShape(Section):
    """A Llama 2 decoder: RMSNorm, RoPE, grouped-query attention, SwiGLU, no biases."""

    layers: PositiveCount
    """Number of blocks."""
    width: PositiveCount
    """Dimension of the hidden states, a multiple of twice `heads`."""
    ffn: PositiveCount
    """Dimension inside the SwiGLU feed-forward layers."""
    heads: PositiveCount
    """Number of query heads."""
    kv_heads: PositiveCount
    """Number of key-value heads, a divisor of `heads`."""
    context: PositiveCount
    """Tokens of a training sequence."""
    vocab_size: PositiveCount
    """Number of embeddings: the ids of the tokenizer, or more with an imported one."""
    rope_theta: Annotated[Number, Field(gt=0)] = 10000.0
    """Base of the rotary position embeddings."""
    norm_eps: Annotated[Number, Field(gt=0)] = 1e-5
    """Epsilon of RMSNorm."""
    tied_embeddings: bool = False
    """Whether the head shares the matrix of the input embedding."""

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    @property
    def block_matrices(self) -> int:
        """Number of weights in the matrices of all blocks: attention and feed-forward, without norms."""
        attention = 2 * self.width * self.width + 2 * self.width * self.kv_heads * self.head_dim
        return self.layers * (attention + 3 * self.width * self.ffn)

    @property
    def saved_per_token(self) -> int:
        """Numbers that a block saves of each token for the backward pass, in bf16.

        They are the inputs of the two norms, of the two groups of products, of the output projection and of attention
        (query, key, value), and gate, up and their product in the feed-forward.
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
    It is a key of its own, so that extending a stage never bends the curve."""

    @model_validator(mode="after")
    def _falls(self) -> LearningRate:
        if self.minimum >= self.peak:
            raise ValueError(f"minimum ({self.minimum:g}) must be below peak ({self.peak:g})")
        if self.warmup >= self.horizon:
            raise ValueError(f"warmup ({self.warmup}) must be below horizon ({self.horizon})")
        return self

    def describe(self) -> str:
        """The schedule after the warm-up in one line, for people."""
        return f"{self.peak:g} to {self.minimum:g}, one cosine over {format_count(self.horizon)} tokens"


class Optimizer(Section):
    """Decoupled weight decay on every parameter; one learning rate for all."""

    kind: Literal["adamw", "muon"] = "adamw"
    """`adamw`, or `muon` for the blocks' matrices with AdamW for embeddings, head and norms."""
    learning_rate: LearningRate
    """Schedule of the learning rate: a linear warm-up, then one cosine over tokens."""
    betas: tuple[Number, Number] = (0.9, 0.95)
    """Decay rates of AdamW's two moments."""
    eps: Annotated[Number, Field(gt=0)] = 1e-8
    """Epsilon of AdamW."""
    weight_decay: Annotated[Number, Field(ge=0)] = 0.1
    """Decoupled weight decay of every parameter."""
    clip: Annotated[Number, Field(gt=0)] = 1.0
    """Global norm that gradients are clipped to."""

    def describe(self) -> str:
        """The optimizer and its constants in one line, for people."""
        adamw = f"betas {self.betas[0]:g}/{self.betas[1]:g}, eps {self.eps:g}"
        both = f"weight decay {self.weight_decay:g}, clip {self.clip:g}"
        if self.kind == "adamw":
            return f"AdamW, {adamw}, {both}"
        return f"Muon for the blocks' matrices (momentum {MUON_MOMENTUM:g}), AdamW for the rest ({adamw}), {both}"

    def state_names(self, weight: str) -> tuple[str, ...]:
        """Names of the moments that are kept of a weight; each has the weight's shape, in fp32."""
        by_muon = self.kind == "muon" and weight.startswith("layers.") and "norm" not in weight
        return MUON_STATE if by_muon else ADAMW_STATE

    def state_bytes(self, shape: ModelShape) -> int:
        """Bytes of the moments of all weights of a model."""
        by_muon = shape.block_matrices if self.kind == "muon" else 0
        numbers = len(MUON_STATE) * by_muon + len(ADAMW_STATE) * (shape.parameters - by_muon)
        return _STATE_BYTES * numbers


class Stage(Section):
    """A span of tokens with one batch size."""

    name: Annotated[Name, DECIDES_NOTHING]
    """Name of the stage."""
    until: PositiveCount
    """Total tokens at which the stage ends, with the first step that reaches them."""
    batch: BatchSize
    """Batch of a step: `880 sequences`, or a number of tokens that is a whole number of sequences."""
    fork: Annotated[bool, RepresentedBy("the shares that were in force")] = False
    """Whether the variants leave the base at the start of this stage; one stage has it."""
    ramp: Count = 0
    """Tokens over which shares move linearly from the base's to the variant's, on the stage with the fork."""

    @model_validator(mode="after")
    def _ramp_needs_fork(self) -> Stage:
        if self.ramp and not self.fork:
            raise ValueError("ramp belongs to the stage with fork: true")
        return self


class Start(Section):
    """A model that training starts from, instead of random weights."""

    model: Annotated[str, RepresentedBy("the hash of its weights")]
    """A Hugging Face folder or hub id, a GGUF file, or a checkpoint (`…/checkpoints/step-<n>`)."""
    tokens: Annotated[Count, Field(ge=0)]
    """Tokens that the model counts as having seen; the plan and its learning rate begin there."""
    moments: Literal["fresh", "kept"] = "fresh"
    """The optimizer's moments at the start: zeros, or those of a checkpoint written by TinyLlama."""
    rewarm: Annotated[Count, Field(ge=0)] = 0
    """Tokens over which the learning rate rises linearly from 0 to the schedule's."""


class Spikes(Section):
    """What to do about loss spikes: steps that would harm the weights, found before their update.

    A step is a spike if its loss or gradient norm is not finite, or if its loss is more than `sigmas` standard
    deviations above the mean loss of the last `window` updates of its stage. Skipped steps keep their place in the
    plan: their tokens count as seen, and the learning rate of later steps does not change.
    """

    policy: Literal["none", "skip", "rollback-and-skip"] = "none"
    """`none` watches no losses, `skip` skips the spike's update, `rollback-and-skip` also undoes the steps before it.
    With `none`, a non-finite loss or gradient ends training. With `rollback-and-skip`, the weights return to the last
    planned checkpoint, and all steps since then are skipped (Chowdhery et al. 2022, "PaLM", section 5.1)."""
    sigmas: Annotated[Number, Field(gt=0)] = 6.0
    """Standard deviations above the mean loss from which a loss is a spike."""
    window: Annotated[Count, Field(ge=2)] = 128
    """Updates that the mean and the standard deviation are taken over.
    Until a stage has had that many, only a non-finite loss or gradient is a spike."""
