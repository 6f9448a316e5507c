"""The schema of recipes. The code reads each key; unknown keys are rejected.

docs/recipes.md defines the terms (stage, variant, fork, corpus, row). Token counts are whole numbers; shares are exact
fractions.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tinyllama.recipe.classification import DECIDES_NOTHING, Absent, RepresentedBy
from tinyllama.recipe.quantities import Share
from tinyllama.recipe.running import Checkpoints, Evaluation, Hardware, Logging
from tinyllama.recipe.section import Name, Section
from tinyllama.recipe.text import Corpus, TokenizerSettings
from tinyllama.recipe.training import ModelShape, Optimizer, Spikes, Stage, Start

Shares = dict[Name, Share]
_SharesOrVariants = dict[str, Fraction | dict[str, Fraction]]


class Recipe(Section):
    """A whole family."""

    name: Annotated[Name, DECIDES_NOTHING]
    """Name of the family and of its folder below `runs/`."""
    description: Annotated[str, DECIDES_NOTHING]
    """One-line description of the family, for `tinyllama recipes` and the model cards."""
    license: Annotated[str, DECIDES_NOTHING]
    """License of the trained models, as a hub identifier (`apache-2.0`); appears in model cards."""
    seed: int = 0
    """Seed of the initial weights and of all permutations of rows."""
    model: ModelShape
    """Shape of the model."""
    tokenizer: TokenizerSettings
    """Where the tokenizer comes from: exactly one of `builtin`, `file`, `train` and `imported`."""
    corpora: Annotated[
        dict[Name, Corpus], Field(min_length=1), RepresentedBy("the manifest's hash of each corpus in use")
    ]
    """Corpora by name."""
    document_masking: bool = False
    """Whether attention stays inside each document."""
    precision: Literal["fp32", "bf16", "fp8"] = "bf16"
    """Number format of matrix products; `fp8` applies only to the blocks, with torchao (extra `fp8`), the rest is bf16.
    Weights, moments and reductions are always fp32. A GPU without fp8 hardware emulates it."""
    optimizer: Optimizer
    """Optimizer and learning rate."""
    start: Annotated[Start | None, Absent(None)] = None
    """Model to start from instead of random weights."""
    base: Annotated[Shares, RepresentedBy("the shares that were in force")]
    """Share of each corpus before the fork; the shares add up to 100%."""
    stages: Annotated[list[Stage], Field(min_length=1)]
    """Stages of training, in order."""
    variants: Annotated[dict[Name, Shares], Field(min_length=1), RepresentedBy("the shares that were in force")]
    """Share of each corpus after the fork, for each variant by name; each variant's shares add up to 100%."""
    evaluation: Annotated[Evaluation, DECIDES_NOTHING]
    """What to measure, and when."""
    hardware: Annotated[Hardware, DECIDES_NOTHING] = Hardware()
    """How training runs."""
    checkpoints: Annotated[Checkpoints, DECIDES_NOTHING]
    """When to save checkpoints, and how many to keep."""
    spikes: Annotated[Spikes, RepresentedBy("the steps that were skipped")] = Spikes()
    """How to handle loss spikes."""
    logging: Annotated[Logging, DECIDES_NOTHING] = Logging()
    """Destinations of metrics in addition to metrics.jsonl."""

    def batch_sequences(self, stage: Stage) -> int:
        """Sequences per step of a stage."""
        return stage.batch.amount if stage.batch.unit == "sequences" else stage.batch.amount // self.model.context

    @property
    def micro_batch(self) -> int:
        """Sequences per pass: the recipe's value, or about 8,192 tokens, enough to keep a processor busy."""
        stated = self.hardware.micro_batch
        return stated if isinstance(stated, int) else max(1, 8192 // self.model.context)

    @property
    def start_sequences(self) -> int:
        """Sequences seen before the first step: `start.tokens` in whole sequences, rounded up."""
        return 0 if self.start is None else -(-self.start.tokens // self.model.context)

    @property
    def fork_index(self) -> int:
        """Index of the first stage that belongs to the variants."""
        return next(i for i, stage in enumerate(self.stages) if stage.fork)

    @field_validator("base")
    @classmethod
    def _base_is_whole(cls, shares: dict[str, Fraction]) -> dict[str, Fraction]:
        return _whole(shares)

    @field_validator("variants")
    @classmethod
    def _variants_are_whole(cls, variants: dict[str, dict[str, Fraction]]) -> dict[str, dict[str, Fraction]]:
        if "base" in variants:
            raise ValueError("'base' is the name of the shared base; give the variant another one")
        for name, shares in variants.items():
            _whole(shares, f"variant {name}: ")
        return variants

    @field_validator("base", "variants")
    @classmethod
    def _corpora_exist(cls, value: _SharesOrVariants, info: ValidationInfo) -> _SharesOrVariants:
        known = info.data.get("corpora", {})
        named = [name for item in value.values() if isinstance(item, dict) for name in item]
        for name in named or value:
            if known and name not in known:
                raise ValueError(f"no corpus is named {name!r}; the recipe has {', '.join(known)}")
        return value

    @field_validator("stages")
    @classmethod
    def _stages_follow(cls, stages: list[Stage], info: ValidationInfo) -> list[Stage]:
        start = info.data.get("start")
        if sum(stage.fork for stage in stages) != 1 or (stages[0].fork and start is None):
            raise ValueError(
                "exactly one stage must have fork: true; it may be the first stage only in a recipe with a start"
            )
        if start is not None and start.tokens >= stages[0].until:
            raise ValueError(f"stage {stages[0].name} must end after start.tokens ({start.tokens})")
        if len({stage.name for stage in stages}) != len(stages):
            raise ValueError("stage names must differ")
        for before, after in pairwise(stages):
            if after.until <= before.until:
                raise ValueError(f"stage {after.name} must end after stage {before.name}")
            if after.ramp > after.until - before.until:
                raise ValueError(f"the ramp of stage {after.name} is longer than the stage")
        if model := info.data.get("model"):
            for stage in stages:
                _check_batch(stage, model.context)
        return stages

    @model_validator(mode="after")
    def _tokenizer_fits(self) -> Recipe:
        training = self.tokenizer.train
        if self.tokenizer.imported and self.start is None:
            raise ValueError(
                "tokenizer.imported uses the tokenizer of start.model: add a start, or choose another tokenizer"
            )
        if training and training.vocab_size != self.model.vocab_size:
            raise ValueError(
                f"tokenizer.train.vocab_size ({training.vocab_size}) must equal "
                f"model.vocab_size ({self.model.vocab_size})"
            )
        for name in training.corpora if training else []:
            if name not in self.corpora:
                raise ValueError(f"tokenizer.train.corpora: no corpus is named {name!r}")
        return self


def _whole(shares: dict[str, Fraction], where: str = "") -> dict[str, Fraction]:
    if sum(shares.values()) != 1:
        raise ValueError(f"{where}shares add up to {float(sum(shares.values()) * 100):g}%, not 100%")
    return shares


def _check_batch(stage: Stage, context: int) -> None:
    amount, unit = stage.batch
    if amount <= 0:
        raise ValueError(f"the batch of stage {stage.name} must be positive")
    if unit == "tokens" and amount % context:
        nearest = max(1, round(amount / context))
        raise ValueError(
            f"the batch of stage {stage.name}, {amount} tokens, is {amount / context:.2f} sequences of {context}; "
            f"write '{nearest} sequences' or {nearest * context}"
        )
