"""The schema of recipes. The code reads each key; unknown keys are rejected.

docs/recipes.md defines the terms (stage, variant, fork, corpus, row). Token counts are whole numbers; shares are exact
fractions.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tinyllama.layout import BASE
from tinyllama.recipe.classification import DECIDES_NOTHING, Absent, Derived, RepresentedBy, with_derived
from tinyllama.recipe.folders import refuse_same_folder, refuse_taken
from tinyllama.recipe.quantities import Flag, Seed
from tinyllama.recipe.running import Checkpoints, Evaluation, Hardware, Logging
from tinyllama.recipe.section import Dimension, Name, Section, WrongKey
from tinyllama.recipe.shape import ModelShape
from tinyllama.recipe.stages import (
    batch_sequences,
    check_shares,
    check_stages,
    end_tokens,
    no_corpus,
    partition_name,
)
from tinyllama.recipe.text import Corpus, TokenizerSettings, check_methods
from tinyllama.recipe.training import Average, Optimizer, Shares, Spikes, Stage, Start
from tinyllama.recipe.tree import Branch, check_branch, check_fork, check_parents, path_to_fork

AUTO: Final = "auto"
"""The precision that the device decides."""


class Recipe(Section):
    """A whole family."""

    name: Annotated[Name, DECIDES_NOTHING]
    """Name of the family and of its folder below `runs/`."""
    description: Annotated[str, DECIDES_NOTHING] = "A family of small Llama-compatible language models"
    """One-line description of the family, for `tinyllama recipes` and the model cards."""
    license: Annotated[str, DECIDES_NOTHING] = "other"
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
    variants: Annotated[dict[Name, Shares], RepresentedBy("the shares that were in force")] = Field(default={})
    """Share of each corpus after the fork, for each variant by name; each variant's shares add up to 100%."""
    branches: Annotated[dict[Name, Branch], RepresentedBy("the shares, stages and schedule that were in force")] = (
        Field(default={})
    )
    """Models that fork from any other one, at any step, and have stages of their own, by name."""
    evaluation: Annotated[Evaluation, DECIDES_NOTHING, Derived("optional")]
    """What to measure, and when."""
    hardware: Annotated[Hardware, DECIDES_NOTHING] = Hardware()
    """How training runs."""
    checkpoints: Annotated[Checkpoints, DECIDES_NOTHING, Derived("optional")]
    """When to save checkpoints, and how many to keep."""
    spikes: Annotated[Spikes, RepresentedBy("the steps that were skipped")] = Spikes()
    """How to handle loss spikes."""
    logging: Annotated[Logging, DECIDES_NOTHING] = Logging()
    """Destinations of metrics in addition to metrics.jsonl."""

    @model_validator(mode="before")
    @classmethod
    def _fills_in(cls, recipe: object) -> object:
        return with_derived(recipe) if isinstance(recipe, dict) else recipe

    def batch_sequences(self, stage: Stage) -> int:
        """Sequences per step of a stage."""
        return batch_sequences(stage, self.model.context)

    def context(self, stage: Stage) -> int:
        """Tokens per sequence of a stage."""
        return stage.context or self.model.context

    def contexts_of(self, model: str) -> tuple[int, ...]:
        """The contexts that a model is trained at, in order; those of the path to its fork included."""
        line = self.line(model)
        stages = line.stages[: line.fork_index] if model == BASE else line.stages
        return tuple(dict.fromkeys(map(self.context, stages)))

    @property
    def contexts(self) -> list[int]:
        """The model's own context, and those that the models of the family are trained at."""
        return [self.model.context, *(context for model in self.models for context in self.contexts_of(model))]

    @property
    def longest_context(self) -> int:
        """The longest context that a model of the family is trained at."""
        return max(self.contexts)

    def partitions(self, corpus: str) -> dict[str, int]:
        """Names of the rows of a corpus that some model of the family is trained on, and their context."""
        return {partition_name(corpus, context, self.model.context): context for context in self.contexts}

    def shape_at(self, model: str, tokens: int) -> ModelShape:
        """The shape of a model that has seen `tokens` tokens: that of the stage in which its last step was."""
        line = self.line(model)
        stages = line.stages[: line.fork_index] if model == BASE else line.stages
        ends = zip(stages, line.end_tokens, strict=False)
        last = next((stage for stage, end in ends if end >= tokens), stages[-1] if stages else None)
        return self.model if last is None or tokens <= self.start_tokens else last.shape(self.model)

    def final_shape(self, model: str) -> ModelShape:
        """The shape of a finished model."""
        line = self.line(model)
        return self.shape_at(model, [self.start_tokens, *line.end_tokens][line.fork_index if model == BASE else -1])

    def in_stage(self, stage: Stage) -> Recipe:
        """The recipe with the model's shape in a stage, and as many tokens in a pass as it states for its context."""
        shape, stated = stage.shape(self.model), self.hardware.micro_batch
        if shape == self.model:
            return self
        hardware = self.hardware
        if isinstance(stated, int):
            update = {"micro_batch": self.rows_of_pass(stated, shape.context)}
            hardware = hardware.model_copy(update=update)
        return self.model_copy(update={"model": shape, "hardware": hardware})

    def rows_of_pass(self, micro_batch: int, context: int) -> int:
        """Sequences of a context in a pass that has as many tokens as `micro_batch` sequences of the model's."""
        return max(1, micro_batch * self.model.context // context)

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
        """Sequences seen before the first step: `start.tokens` in whole sequences of the model's, rounded up."""
        return 0 if self.start is None else -(-self.start.tokens // self.model.context)

    @property
    def start_tokens(self) -> int:
        """Tokens seen before the first step, in whole sequences."""
        return self.start_sequences * self.model.context

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
        """Index of the first stage that belongs to the variants; the number of stages if none does."""
        return next((i for i, stage in enumerate(self.stages) if stage.fork), len(self.stages))

    @property
    def models(self) -> list[str]:
        """`base`, the variants and the branches, each after its parent."""
        branches = sorted(self.branches, key=lambda name: len(self.ancestry(name)))
        return [BASE, *self.variants, *branches]

    @property
    def planned(self) -> list[str]:
        """The models whose plans show every step of the family: without a base that all others contain."""
        return self.models[1:] if self.variants else self.models

    def parent(self, model: str) -> str:
        """The model that a variant or branch forks from."""
        return self.branches[model].parent if model in self.branches else BASE

    def branches_of(self, model: str) -> list[str]:
        """The branches that fork from a model."""
        return [name for name, branch in self.branches.items() if branch.parent == model]

    def ancestry(self, model: str) -> list[str]:
        """The models from the base to a model, each the parent of the next."""
        return [BASE] if model == BASE else [*self.ancestry(self.parent(model)), model]

    @property
    def end_tokens(self) -> list[int]:
        """Tokens seen at the end of each stage, in whole steps."""
        return end_tokens(self.stages, self.model.context, self.start_tokens)

    def fork_tokens(self, model: str) -> int:
        """Tokens seen where a model forks; for the base, before its first step."""
        line = self.line(model)
        return [self.start_tokens, *line.end_tokens][0 if model == BASE else line.fork_index]

    def own_tokens(self, model: str) -> int:
        """Tokens that a model is trained on after its fork, in whole steps."""
        line = self.line(model)
        end = [self.start_tokens, *line.end_tokens][line.fork_index if model == BASE else -1]
        return end - self.fork_tokens(model)

    def line(self, model: str | None) -> Recipe:
        """A recipe without branches whose plan for a model is the same: the recipe itself unless it is a branch.

        The path to a branch's fork becomes the base of that recipe, and the branch its only variant.
        """
        branch = self.branches.get(model or BASE)
        if branch is None:
            return self
        parent, context = self.line(branch.parent), self.model.context
        stages = parent.stages[: parent.fork_index] if branch.parent == BASE else parent.stages
        shares = parent.path_shares(branch.parent)
        path = path_to_fork(branch, stages, parent.end_tokens, dict(shares[1:]))
        first, *rest = branch.stages
        rate = parent.optimizer.learning_rate
        if branch.decay is not None:
            fork = end_tokens(path, context, self.start_tokens)[-1]
            rate = branch.decay.schedule(rate, fork, branch.stages[-1].until)
        return self.model_copy(
            update={
                "optimizer": self.optimizer.model_copy(update={"learning_rate": rate}),
                "stages": [*path, first.model_copy(update={"fork": True, "ramp": branch.ramp}), *rest],
                "variants": {model: branch.shares or [own for index, own in shares if index < len(path)][-1]},
                "branches": {},
            }
        )

    def own_shares(self, model: str) -> list[tuple[int, Shares]]:
        """Stage of its line → the shares of a model from there on, without its parent's stages."""
        line = self.line(model)
        first, end = (0, line.fork_index) if model == BASE else (line.fork_index, len(line.stages))
        stages = enumerate(line.stages[first:end], first)
        changes = [(index, stage.shares[model]) for index, stage in stages if model in stage.shares]
        return [(first, line.base if model == BASE else line.variants[model]), *changes]

    def path_shares(self, model: str) -> list[tuple[int, Shares]]:
        """Stage of its line → shares from there on, from the base's first stage to a model's last."""
        line = self.line(model)
        return line.own_shares(BASE) + (line.own_shares(model) if model != BASE else [])

    def corpora_of(self, model: str) -> tuple[str, ...]:
        """The corpora that a model is trained on, those of the path to its fork included."""
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
        check_methods(corpora)
        return corpora

    @field_validator("base")
    @classmethod
    def _base_is_whole(cls, shares: Shares, info: ValidationInfo) -> Shares:
        check_shares(shares, info.data.get("corpora"))
        return shares

    @field_validator("variants")
    @classmethod
    def _variants_are_whole(cls, variants: dict[str, Shares], info: ValidationInfo) -> dict[str, Shares]:
        refuse_taken(variants)
        for name, shares in variants.items():
            check_shares(shares, info.data.get("corpora"), name)
        return variants

    @field_validator("branches")
    @classmethod
    def _branches_are_whole(cls, branches: dict[str, Branch], info: ValidationInfo) -> dict[str, Branch]:
        refuse_taken([*info.data.get("variants", {}), *branches])
        for name, branch in branches.items():
            if branch.shares:
                check_shares(branch.shares, info.data.get("corpora"), name, "shares")
        return branches

    @field_validator("stages")
    @classmethod
    def _stages_follow(cls, stages: list[Stage], info: ValidationInfo) -> list[Stage]:
        start, model = info.data.get("start"), info.data.get("model")
        if start is not None and start.tokens >= stages[0].until:
            raise WrongKey(f"stage {stages[0].name} must end after start.tokens ({start.tokens})", 0, "until")
        seen, corpora = 0 if start is None else start.tokens, len(info.data.get("corpora", {}))
        check_stages(stages, model and model.context, corpora, seen)
        if model is not None and model.rope_scaling is not None and model.rope_scaling.kind == "dynamic":
            for index, stage in enumerate(stages):
                if stage.context is not None:
                    found = "a model with dynamic scaling has one context; state rope_scaling of another kind for it"
                    raise WrongKey(found, index, "context")
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
    def _variants_have_a_fork(self) -> Recipe:
        forks = sum(stage.fork for stage in self.stages)
        if self.variants and (forks != 1 or (self.stages[0].fork and self.start is None)):
            raise WrongKey(
                "exactly one stage must have fork: true; it may be the first stage only in a recipe with a start",
                "stages",
            )
        if forks and not self.variants:
            raise WrongKey(
                "no variants fork here; write variants, or remove the key", "stages", self.fork_index, "fork"
            )
        return self

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
                check_shares(shares, self.corpora, *key)
        return self

    @model_validator(mode="after")
    def _branches_follow(self) -> Recipe:
        for name in self.branches:
            check_parents(name, self.branches, [BASE, *self.variants])
        for name in self.models:
            if name in self.branches:
                check_fork(name, self)
                check_branch(name, self)
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
                raise WrongKey(no_corpus(name, self.corpora), "tokenizer", "train", "corpora", index)
        return self
