"""The schema of recipes. The code reads each key; unknown keys are rejected.

docs/recipes.md defines the terms (stage, variant, fork, corpus, row). Token counts are whole numbers; shares are exact
fractions.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tinyllama.layout import BASE
from tinyllama.recipe.classification import DECIDES_NOTHING, Absent, RepresentedBy
from tinyllama.recipe.folders import refuse_same_folder, refuse_taken
from tinyllama.recipe.quantities import LARGEST_BATCH, Flag, Seed, format_share
from tinyllama.recipe.running import Checkpoints, Evaluation, Hardware, Logging
from tinyllama.recipe.section import Dimension, Name, Section, WrongKey
from tinyllama.recipe.shape import ModelShape
from tinyllama.recipe.text import Corpus, TokenizerSettings
from tinyllama.recipe.training import Average, Optimizer, Shares, Spikes, Stage, Start
from tinyllama.text import did_you_mean

_MOST_ENTRIES = 2**25
"""Steps times corpora of a plan; about 2 GB of memory. TinyLlama v1.1 has 4 million."""


AUTO: Final = "auto"
"""The precision that the device decides."""


class Recipe(Section):
    """A whole family."""

    name: Annotated[Name, DECIDES_NOTHING]
    """Name of the family and of its folder below `runs/`."""
    description: Annotated[str, DECIDES_NOTHING]
    """One-line description of the family, for `tinyllama recipes` and the model cards."""
    license: Annotated[str, DECIDES_NOTHING]
    """License of the trained models, as a hub identifier (`apache-2.0`); appears in model cards."""
    seed: Seed = 0
    """Seed of the initial weights and of all permutations of rows."""
    model: ModelShape
    """Shape of the model, or `imported`: the shape of `start.model`."""
    tokenizer: TokenizerSettings
    """Where the tokenizer comes from: exactly one of `builtin`, `file`, `train` and `imported`."""
    corpora: Annotated[
        dict[Name, Corpus], Field(min_length=1), RepresentedBy("the manifest's hash of each corpus in use")
    ]
    """Corpora by name."""
    document_masking: Flag = False
    """Whether attention stays inside each document, which BOS begins, or EOS ends if `tokenizer.bos` is false."""
    precision: Literal["fp32", "bf16", "fp16", "fp8", "auto"] = "bf16"
    """Number format of matrix products; `fp16` scales the loss dynamically, `fp8` applies only to the blocks, with
    torchao (extra `fp8`), the rest is bf16, and `auto` is `bf16` where the device multiplies in it, else `fp16` on
    CUDA, else `fp32`. Weights, moments and reductions are always fp32. A GPU without fp8 hardware emulates it."""
    optimizer: Optimizer
    """Optimizer and learning rate."""
    parametrization: Annotated[Literal["standard", "mup"], Absent("standard")] = "standard"
    """Whether learning rate and initialization change with the width, so that those of a narrow model suit a wide one.
    `mup` is that of Yang et al. 2022 ("Tensor Programs V", table 3), see `Optimizer.group` and `Llama.initialize`."""
    base_width: Annotated[Dimension, Absent(256)] = 256
    """Dimension of the hidden states of the narrow model, at which `mup` changes nothing; only with `mup`."""
    average: Annotated[Average | None, Absent(None)] = None
    """Average of the weights that each model has beside its last ones."""
    start: Annotated[Start | None, Absent(None)] = None
    """Model to start from instead of random weights."""
    base: Annotated[Shares, RepresentedBy("the shares that were in force")]
    """Share of each corpus before the fork; the shares add up to 100%."""
    stages: Annotated[list[Stage], Field(min_length=1, max_length=1000)]
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

    def in_precision(self, precision: object) -> Recipe:
        """The recipe with the precision that `auto` is, or was where a model was trained."""
        return self.model_copy(update={"precision": precision})

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
    def widening(self) -> float:
        """Width of the model as a multiple of the base width; 1 in the standard parametrization."""
        return self.model.width / self.base_width if self.parametrization == "mup" else 1.0

    def describe_optimizer(self) -> str:
        """One-line description of the optimizer, its constants, and the parametrization if it is not the standard."""
        mup = f", muP from width {self.base_width} (x{self.widening:g})" if self.parametrization == "mup" else ""
        return self.optimizer.describe() + mup

    @property
    def average_bytes(self) -> int:
        """Bytes of the running average of the weights, in fp32; 0 without one."""
        return 4 * self.model.parameters if self.average is not None and self.average.half_life is not None else 0

    @property
    def fork_index(self) -> int:
        """Index of the first stage that belongs to the variants."""
        return next(i for i, stage in enumerate(self.stages) if stage.fork)

    def own_shares(self, model: str) -> list[tuple[int, Shares]]:
        """Stage → the shares of a model from there on, without the base's stages for a variant."""
        fork = self.fork_index
        first, end = (0, fork) if model == BASE else (fork, len(self.stages))
        later = self.stages[first + 1 : end]
        changes = [
            (index, stage.shares[model]) for index, stage in enumerate(later, first + 1) if model in stage.shares
        ]
        return [(first, self.base if model == BASE else self.variants[model]), *changes]

    def path_shares(self, model: str) -> list[tuple[int, Shares]]:
        """Stage → shares from there on, from the base's first stage to a model's last."""
        return self.own_shares(BASE) + (self.own_shares(model) if model != BASE else [])

    def corpora_of(self, model: str) -> tuple[str, ...]:
        """The corpora that a model is trained on, its base's included."""
        mixtures = self.path_shares(model)
        return tuple(name for name in self.corpora if any(shares.get(name, 0) > 0 for _, shares in mixtures))

    @field_validator("document_masking")
    @classmethod
    def _documents_are_marked(cls, masking: bool, info: ValidationInfo) -> bool:  # noqa: FBT001  # Pydantic passes it
        tokenizer = info.data.get("tokenizer")
        if masking and tokenizer is not None and not (tokenizer.bos or tokenizer.eos):
            raise ValueError(
                "documents without BOS and EOS cannot be told apart; set tokenizer.bos or tokenizer.eos to true, or "
                "document_masking to false"
            )
        return masking

    @field_validator("corpora")
    @classmethod
    def _corpora_have_folders(cls, corpora: dict[str, Corpus]) -> dict[str, Corpus]:
        refuse_same_folder(corpora)
        return corpora

    @field_validator("base")
    @classmethod
    def _base_is_whole(cls, shares: dict[str, Fraction], info: ValidationInfo) -> dict[str, Fraction]:
        _check_shares(shares, info.data.get("corpora"))
        return shares

    @field_validator("variants")
    @classmethod
    def _variants_are_whole(
        cls, variants: dict[str, dict[str, Fraction]], info: ValidationInfo
    ) -> dict[str, dict[str, Fraction]]:
        refuse_taken(variants)
        for name, shares in variants.items():
            _check_shares(shares, info.data.get("corpora"), name)
        return variants

    @field_validator("stages")
    @classmethod
    def _stages_follow(cls, stages: list[Stage], info: ValidationInfo) -> list[Stage]:
        start = info.data.get("start")
        if sum(stage.fork for stage in stages) != 1 or (stages[0].fork and start is None):
            raise ValueError(
                "exactly one stage must have fork: true; it may be the first stage only in a recipe with a start"
            )
        if start is not None and start.tokens >= stages[0].until:
            raise WrongKey(f"stage {stages[0].name} must end after start.tokens ({start.tokens})", 0, "until")
        for index, (before, after) in enumerate(pairwise(stages), 1):
            if after.name in {stage.name for stage in stages[:index]}:
                raise WrongKey(f"stage names must differ, but two are {after.name}", index, "name")
            if after.until <= before.until:
                raise WrongKey(f"stage {after.name} must end after stage {before.name}", index, "until")
            if after.ramp > after.until - before.until:
                raise WrongKey(f"the ramp of stage {after.name} is longer than the stage", index, "ramp")
        if model := info.data.get("model"):
            for index, stage in enumerate(stages):
                _check_batch(index, stage, model.context)
            _check_steps(stages, model.context, len(info.data.get("corpora", {})), 0 if start is None else start.tokens)
        return stages

    @field_validator("parametrization")
    @classmethod
    def _head_has_its_own_scale(cls, kind: str, info: ValidationInfo) -> str:
        model = info.data.get("model")
        if kind == "mup" and model is not None and model.tied_embeddings:
            raise ValueError("mup scales head and embeddings differently; set model.tied_embeddings to false")
        return kind

    @field_validator("base_width")
    @classmethod
    def _base_width_has_an_effect(cls, width: int, info: ValidationInfo) -> int:
        if width != 256 and info.data.get("parametrization") == "standard":
            raise ValueError("has an effect only with parametrization: mup; add that, or remove this key")
        return width

    @field_validator("optimizer")
    @classmethod
    def _head_is_its_own(cls, optimizer: Optimizer, info: ValidationInfo) -> Optimizer:
        model = info.data.get("model")
        if model is not None and model.tied_embeddings and optimizer.learning_rate_factors.head != 1:
            raise WrongKey(
                "the head shares the embeddings' matrix (model.tied_embeddings); set learning_rate_factors.embeddings",
                *("learning_rate_factors", "head"),
            )
        return optimizer

    @model_validator(mode="after")
    def _stages_have_shares_of_their_models(self) -> Recipe:
        fork = self.fork_index
        for index, stage in enumerate(self.stages):
            for model, shares in stage.shares.items():
                key = ("stages", index, "shares", model)
                if index in {0, fork}:
                    raise WrongKey("this stage begins with the shares of base or variants; write them there", *key)
                if model not in (models := [BASE] if index < fork else list(self.variants)):
                    raise WrongKey(f"stage {stage.name} trains {', '.join(models)}, not {model!r}", *key)
                _check_shares(shares, self.corpora, *key)
        return self

    @model_validator(mode="after")
    def _tokenizer_fits(self) -> Recipe:
        training = self.tokenizer.train
        if self.tokenizer.imported and self.start is None:
            raise WrongKey(
                "uses the tokenizer of start.model: add a start, or choose another tokenizer", "tokenizer", "imported"
            )
        if training and training.vocab_size != self.model.vocab_size:
            raise WrongKey(
                f"{training.vocab_size} must equal model.vocab_size ({self.model.vocab_size})",
                *("tokenizer", "train", "vocab_size"),
            )
        for index, name in enumerate(training.corpora if training else []):
            if name not in self.corpora:
                raise WrongKey(_no_corpus(name, self.corpora), "tokenizer", "train", "corpora", index)
        return self


def _check_shares(shares: Shares, corpora: dict[str, Corpus] | None, *key: str | int) -> None:
    """Refuse shares that are not whole, or of a corpus that the recipe lacks; `corpora` is None if they are wrong."""
    of = f"variant {key[0]}: " if len(key) == 1 else ""
    for name in shares:
        if corpora is not None and name not in corpora:
            raise WrongKey(_no_corpus(name, corpora), *key, name)
    if (total := sum(shares.values(), Fraction(0))) != 1:
        raise WrongKey(f"{of}shares add up to {format_share(total)}, not 100%", *key)


def _no_corpus(name: str, corpora: dict[str, Corpus]) -> str:
    return f"no corpus is named {name!r}{did_you_mean(name, corpora)}; the recipe has {', '.join(corpora)}"


def _check_batch(index: int, stage: Stage, context: int) -> None:
    amount, unit = stage.batch
    if not 0 < amount <= LARGEST_BATCH * (1 if unit == "sequences" else context):
        raise WrongKey(f"the batch of stage {stage.name} must be from 1 to {LARGEST_BATCH} sequences", index, "batch")
    if unit == "tokens" and amount % context:
        nearest = max(1, round(amount / context))
        raise WrongKey(
            f"the batch of stage {stage.name}, {amount} tokens, is {amount / context:.2f} sequences of {context}; "
            f"write '{nearest} sequences' or {nearest * context}",
            *(index, "batch"),
        )


def _check_steps(stages: list[Stage], context: int, corpora: int, seen: int) -> None:
    """Refuse a plan whose table, a number for each step and corpus, would not fit into memory."""
    steps = 0
    for index, stage in enumerate(stages):
        tokens = stage.batch.amount * (context if stage.batch.unit == "sequences" else 1)
        steps += max(0, stage.until - seen) // tokens
        seen = stage.until
        if steps * max(corpora, 1) > _MOST_ENTRIES:
            raise WrongKey(
                f"the plan would have {steps:,} steps by the end of stage {stage.name}; end it earlier, or make its "
                f"batch larger (the limit for this number of corpora is {_MOST_ENTRIES // max(corpora, 1):,} steps)",
                *(index, "until"),
            )
