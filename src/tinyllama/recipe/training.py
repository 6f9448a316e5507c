"""Keys that affect the weights: optimizer, stages, start and spikes."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from tinyllama.recipe.classification import DECIDES_NOTHING, Absent, Derived, RepresentedBy
from tinyllama.recipe.quantities import BatchSize, Count, Number, Share, format_count, parse_share
from tinyllama.recipe.section import Dimension, Name, PathText, PositiveCount, Section, WrongKey
from tinyllama.recipe.shape import RopeScaling

if TYPE_CHECKING:
    from tinyllama.recipe.shape import ModelShape

ADAMW_STATE, MUON_STATE = ("exp_avg", "exp_avg_sq"), ("momentum_buffer",)
"""Names of the moments that each optimizer keeps per weight."""
MUON_MOMENTUM = 0.95
"""Nesterov momentum of Muon (Jordan 2024)."""
_STATE_BYTES = 4
"""Bytes per number in a moment (fp32)."""
Shares = dict[Name, Share]
_Decay = Annotated[Number, Field(ge=0, lt=1)]
_LN2 = math.log(2)
_Factor = Annotated[Number, Field(gt=0)]


class Point(Section):
    """A point of a piecewise schedule."""

    tokens: Count
    """Tokens at which `factor` is reached."""
    factor: Annotated[Number, Field(ge=0, le=1)]
    """Learning rate there, as a part of the peak."""


def _of_the_horizon(value: object, info: ValidationInfo) -> object:
    """A share as whole tokens of the horizon, rounded up; another value as it is."""
    if not isinstance(value, str) or not {"%", "/"} & set(value):
        return value
    share = parse_share(value)
    if info.data.get("horizon") is None:
        raise ValueError(f"{value} is a share of horizon; add horizon, or write a number of tokens")
    return math.ceil(share * info.data["horizon"])


class LearningRate(Section):
    """A linear warm-up, then one schedule; a pure function of tokens seen."""

    schedule: Annotated[Literal["cosine", "wsd", "constant", "piecewise"], Absent("cosine")] = "cosine"
    """What follows the warm-up: one `cosine` to the horizon, the peak and then a decay (`wsd`), the peak (`constant`),
    or lines or steps through `points` (`piecewise`)."""
    peak: Annotated[Number, Field(gt=0)]
    """Learning rate at the end of the warm-up."""
    minimum: Annotated[Number, Field(ge=0)] | None = None
    """Required for `cosine` and `wsd`: learning rate at the horizon and after it."""
    warmup: Count
    """Tokens over which the learning rate rises linearly from 0 to the peak."""
    horizon: Annotated[PositiveCount | None, Derived("`until` of the last stage")] = None
    """For `cosine` and `wsd`: tokens at which the minimum is reached.
    It is a key of its own, so that extending a stage does not change the curve."""
    decay_from: Annotated[Count | None, BeforeValidator(_of_the_horizon), Absent(None)] = None
    """Required for `wsd`: tokens at which the decay begins, or a percentage of the horizon."""
    decay: Annotated[Literal["linear", "cosine", "1-sqrt", "exponential"] | None, Absent(None)] = None
    """Required for `wsd`: shape of the decay from the peak to the minimum."""
    points: Annotated[list[Point], Field(max_length=1000), Absent([])] = Field(default=[])
    """Required for `piecewise`: the points after the warm-up, at whose end the factor is 1; the last factor stays."""
    between: Annotated[Literal["linear", "step"] | None, Absent(None)] = None
    """Required for `piecewise`: whether the factor changes linearly between points, or stays until the next one."""

    @model_validator(mode="after")
    def _has_its_keys(self) -> LearningRate:
        for key in ("minimum", "horizon", "decay_from", "decay", "points", "between"):
            given, used = getattr(self, key) not in (None, []), key in _KEYS[self.schedule]
            if used and not given:
                raise WrongKey(f"schedule {self.schedule} needs this key", key)
            if given and not used:
                remedy = "remove it, or write null where a recipe extends one that has it"
                raise WrongKey(f"schedule {self.schedule} does not use this key; {remedy}", key)
        return self

    @model_validator(mode="after")
    def _falls(self) -> LearningRate:
        if self.minimum is not None and self.minimum >= self.peak:
            raise ValueError(f"minimum ({self.minimum:g}) must be below peak ({self.peak:g})")
        if self.horizon is not None and self.warmup >= self.horizon:
            raise ValueError(f"warmup ({self.warmup}) must be below horizon ({self.horizon})")
        if self.decay_from is not None and not self.warmup <= self.decay_from < (self.horizon or 0):
            found = f"{self.decay_from} must be from warmup ({self.warmup}) to below horizon ({self.horizon})"
            raise WrongKey(found, "decay_from")
        if self.decay == "exponential" and not self.minimum:
            raise WrongKey("must be above 0, which an exponential decay never reaches", "minimum")
        for index, (before, after) in enumerate(pairwise([self.warmup, *(point.tokens for point in self.points)])):
            if after <= before:
                found = f"{after} must be above {before}, where the point before or the warm-up ends"
                raise WrongKey(found, "points", index, "tokens")
        return self

    @property
    def decay_begins(self) -> int:
        """Tokens up to which the learning rate stays at the peak, of a schedule that decays to its minimum."""
        return self.warmup if self.decay_from is None else self.decay_from

    def in_force(self, tokens: int) -> LearningRate:
        """The schedule without what acts only after a number of tokens; a cosine acts as a whole."""
        constant = LearningRate(schedule="constant", peak=self.peak, warmup=self.warmup)
        if self.schedule == "wsd":
            return constant if tokens <= self.decay_begins else self
        if self.schedule != "piecewise":
            return self
        if self.between == "linear" and tokens > self.warmup:
            begun = [self.warmup, *(point.tokens for point in self.points)]
            points = [point for point, begin in zip(self.points, begun, strict=False) if begin < tokens]
        else:
            points = [point for point in self.points if point.tokens <= tokens]
        return self.model_copy(update={"points": points}) if points else constant

    def describe(self) -> str:
        """One-line description of the schedule after the warm-up."""
        if self.schedule == "constant":
            return f"{self.peak:g}, constant"
        if self.schedule == "piecewise":
            points = ", ".join(f"{point.factor:g} at {format_count(point.tokens)}" for point in self.points)
            between = "in steps" if self.between == "step" else "linear between points"
            return f"{self.peak:g} times 1 after the warm-up, then {points} tokens, {between}"
        rates = f"{self.peak:g} to {self.minimum:g}"
        horizon = format_count(self.horizon or 0)
        if self.schedule == "cosine":
            return f"{rates}, one cosine over {horizon} tokens"
        begin = format_count(self.decay_begins)
        return f"{rates}, constant and then a {self.decay} decay from {begin} to {horizon} tokens"


_KEYS: dict[str, set[str]] = {
    "cosine": {"minimum", "horizon"},
    "wsd": {"minimum", "horizon", "decay_from", "decay"},
    "constant": set(),
    "piecewise": {"points", "between"},
}
"""Keys that only some schedules have; they need all of theirs."""


class LearningRateFactors(Section):
    """Multiples of the schedule's learning rate; norms have none, and decoupled weight decay follows them."""

    embeddings: Annotated[_Factor, Absent(1.0)] = 1.0
    """Learning rate of the input embeddings, also where the head shares them, as a multiple of the schedule's."""
    head: Annotated[_Factor, Absent(1.0)] = 1.0
    """Learning rate of the output head, as a multiple of the schedule's; only with a head of its own."""
    matrices: Annotated[_Factor, Absent(1.0)] = 1.0
    """Learning rate of the blocks' matrices, as a multiple of the schedule's."""

    def describe(self) -> str:
        """Names and values of the factors that are not 1; empty if there are none."""
        return ", ".join(f"{name} x{factor:g}" for name, factor in self if factor != 1)


class Optimizer(Section):
    """AdamW or Muon with decoupled weight decay; groups of weights may differ in learning rate and decay."""

    kind: Literal["adamw", "muon"] = "adamw"
    """`adamw`, or `muon` for the blocks' matrices with AdamW for embeddings, head and norms."""
    learning_rate: LearningRate
    """Schedule of the learning rate over tokens: a linear warm-up, then one of four kinds."""
    betas: tuple[_Decay, _Decay] = (0.9, 0.95)
    """Decay rates of AdamW's two moments."""
    eps: Annotated[Number, Field(gt=0)] = 1e-8
    """Epsilon of AdamW."""
    weight_decay: Annotated[Number, Field(ge=0)] = 0.1
    """Decoupled weight decay of the weights that `weight_decay_of` names."""
    weight_decay_of: Annotated[Literal["all", "matrices"], Absent("all")] = "all"
    """Which weights decay: `all`, or the `matrices` of blocks and head, but neither embeddings nor norms."""
    learning_rate_factors: LearningRateFactors = LearningRateFactors()
    """Multiples of the learning rate for groups of weights; norms follow the schedule itself."""
    clip: Annotated[Number, Field(gt=0)] = 1.0
    """Maximum global norm of the gradients; larger gradients are clipped."""
    z_loss: Annotated[Number, Field(ge=0), Absent(0.0)] = 0.0
    """Number of times that the mean of log² Z, the z-loss, is added to the loss; Z is the softmax's denominator.
    It keeps logits small (Chowdhery et al. 2022, "PaLM", section 5, has 1e-4). Recorded losses exclude it."""

    def describe(self) -> str:
        """One-line description of the optimizer and its constants."""
        adamw = f"betas {self.betas[0]:g}/{self.betas[1]:g}, eps {self.eps:g}"
        matrices = " (matrices of blocks and head alone)" if self.weight_decay_of == "matrices" else ""
        both = f"weight decay {self.weight_decay:g}{matrices}, clip {self.clip:g}"
        if factors := self.learning_rate_factors.describe():
            both += f", learning rate of {factors}"
        if self.z_loss:
            both += f", z-loss {self.z_loss:g}"
        if self.kind == "adamw":
            return f"AdamW, {adamw}, {both}"
        return f"Muon for the blocks' matrices (momentum {MUON_MOMENTUM:g}), AdamW for the rest ({adamw}), {both}"

    def state_names(self, weight: str) -> tuple[str, ...]:
        """Names of the moments per weight; each moment has the weight's shape, in fp32."""
        by_muon = self.kind == "muon" and weight.startswith("layers.") and "norm" not in weight
        return MUON_STATE if by_muon else ADAMW_STATE

    def group(self, weight: str, widening: float = 1.0) -> tuple[float, float]:
        """The factor of a weight's learning rate, and its weight decay; a tied head belongs to the embeddings.

        In muP (Yang et al. 2022), AdamW's learning rate of matrices and head falls with the width. Muon's updates of
        matrices have singular values that grow with the root of the width alone, so that their learning rate falls
        with it (Yang, Simon & Bernstein 2023, "A Spectral Condition for Feature Learning"). Learning rate times decay
        stays that of the base width (Wang & Aitchison 2024).

        Args:
            weight: its name.
            widening: width of the model as a multiple of muP's base width; 1 in the standard parametrization.
        """
        factors = self.learning_rate_factors
        narrowing = 1.0
        if "norm" in weight:
            factor = 1.0
        elif weight.startswith("embed_tokens."):
            factor = factors.embeddings
        else:
            factor = factors.head if weight.startswith("lm_head.") else factors.matrices
            narrowing = widening ** (0.5 if self.state_names(weight) == MUON_STATE else 1.0)
        decayed = self.weight_decay_of == "all" or not ("norm" in weight or weight.startswith("embed_tokens."))
        return factor / narrowing, self.weight_decay * narrowing if decayed else 0.0

    def state_bytes(self, shape: ModelShape) -> int:
        """Bytes of the moments for all weights of a model."""
        by_muon = shape.block_matrices if self.kind == "muon" else 0
        numbers = len(MUON_STATE) * by_muon + len(ADAMW_STATE) * (shape.parameters - by_muon)
        return _STATE_BYTES * numbers


class Stage(Section):
    """A span of tokens with one batch size and one context."""

    name: Annotated[Name, DECIDES_NOTHING]
    """Name of the stage."""
    until: PositiveCount
    """Total tokens at which the stage ends; it ends with the first step that reaches this number."""
    batch: BatchSize
    """Batch size: `880 sequences`, or a number of tokens that is a whole number of sequences."""
    fork: Annotated[bool, RepresentedBy("the shares that were in force")] = False
    """Whether the variants fork from the base at the start of this stage; true for exactly one stage."""
    ramp: Count = 0
    """Tokens over which the shares change linearly to those of this stage; only on the fork stage or with `shares`."""
    shares: Annotated[dict[Name, Shares], RepresentedBy("the shares that were in force")] = Field(default={})
    """Share of each corpus from this stage on, for each model that changes: `base`, or from the fork on a variant."""
    learning_rate_factor: Annotated[Number, Field(gt=0), Absent(1.0)] = 1.0
    """Multiplies the learning rate's schedule within this stage."""
    context: Annotated[Dimension | None, Absent(None)] = None
    """Tokens per training sequence in this stage (default: `model.context`).
    Sequences of another length are drawn from the whole corpus again, with epochs and shares of their own."""
    rope_theta: Annotated[Number | None, Field(gt=0), Absent(None)] = None
    """Base of the rotary position embeddings in this stage (default: `model.rope_theta`)."""
    rope_scaling: Annotated[RopeScaling | None, Absent(None)] = None
    """How positions are scaled in this stage (default: `model.rope_scaling`); `original_context` is the model's."""

    @model_validator(mode="after")
    def _ramp_has_a_change(self) -> Stage:
        if self.ramp and not (self.fork or self.shares):
            raise ValueError("ramp is allowed only on the stage with fork: true, or with shares of its own")
        return self

    @model_validator(mode="after")
    def _scaling_has_an_effect(self) -> Stage:
        if self.rope_scaling is not None and self.rope_scaling.kind == "dynamic":
            found = "dynamic scaling acts beyond the context alone, so not in training; choose linear, llama3 or yarn"
            raise WrongKey(found, "rope_scaling", "kind")
        return self

    def shape(self, model: ModelShape) -> ModelShape:
        """The shape of the model in this stage, with the stage's context and positions."""
        if self.context is None and self.rope_theta is None and self.rope_scaling is None:
            return model
        scaling = self.rope_scaling or model.rope_scaling
        if scaling is not None and scaling.kind in {"llama3", "yarn"} and scaling.original_context is None:
            scaling = scaling.model_copy(update={"original_context": model.context})
        own = {"context": self.context or model.context, "rope_theta": self.rope_theta or model.rope_theta}
        return model.model_copy(update={**own, "rope_scaling": scaling})


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


class Average(Section):
    """An average of the weights, evaluated and exported beside the last ones; exactly one of its keys is set."""

    half_life: Annotated[PositiveCount | None, Absent(None)] = None
    """Tokens after which the weights of a step count half in an exponential average over all steps, kept in fp32."""
    last: Annotated[Count | None, Field(ge=2, le=1000), DECIDES_NOTHING] = None
    """Number of checkpoints whose mean weights are computed: the last planned ones, a variant's since its fork."""

    @model_validator(mode="after")
    def _of_one_kind(self) -> Average:
        if (self.half_life is None) == (self.last is None):
            raise ValueError("write exactly one of half_life and last")
        return self

    def rate(self, before: int, after: int) -> float:
        """How far the running average moves toward the weights of the step from `before` to `after` tokens.

        Tokens are counted from the first step, whose rate is thus 1. With these rates, a step's weights count in
        proportion to the integral of 2^-(age / half_life) over the step's tokens, and the initial weights not at all.
        """
        if self.half_life is None:
            return 0.0
        return math.expm1((before - after) * _LN2 / self.half_life) / math.expm1(-after * _LN2 / self.half_life)

    def describe(self) -> str:
        """What is averaged, in words."""
        if self.half_life is None:
            return f"mean weights of the last {self.last} checkpoints"
        return f"exponential average of the weights after each step, half-life {format_count(self.half_life)} tokens"


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
