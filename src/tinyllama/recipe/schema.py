"""What a recipe may say. Each key is read by the code; unknown keys are refused.

Words (stage, variant, fork, corpus, row) are those of docs/recipes.md. Counts of tokens are whole
numbers; shares are exact fractions.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from tinyllama.errors import RecipeError
from tinyllama.recipe.filters import Filter
from tinyllama.recipe.quantities import BatchSize, Count, Number, Share

PositiveCount = Annotated[Count, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelShape(_Section):
    """A Llama 2 decoder: RMSNorm, RoPE, grouped-query attention, SwiGLU, no biases."""

    layers: PositiveCount
    width: PositiveCount
    ffn: PositiveCount
    heads: PositiveCount
    kv_heads: PositiveCount
    context: PositiveCount
    vocab_size: PositiveCount
    rope_theta: Annotated[Number, Field(gt=0)] = 10000.0
    norm_eps: Annotated[Number, Field(gt=0)] = 1e-5
    tied_embeddings: bool = False

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    @property
    def parameters(self) -> int:
        """Number of weights: embeddings, blocks, final norm and (untied) head."""
        attention = 2 * self.width * self.width + 2 * self.width * self.kv_heads * self.head_dim
        block = attention + 3 * self.width * self.ffn + 2 * self.width
        tables = 1 if self.tied_embeddings else 2
        return self.layers * block + tables * self.vocab_size * self.width + self.width

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


class TokenizerTraining(_Section):
    """Train a Llama-style SentencePiece BPE on the recipe's own corpora."""

    vocab_size: PositiveCount
    corpora: list[Name] = []
    """Corpora to learn from; empty means all."""


class Tokenizer(_Section):
    """Where the tokenizer comes from; exactly one of the four."""

    builtin: Literal["llama2"] | None = None
    file: str | None = None
    """A SentencePiece `tokenizer.model`, or a tokenizer.json with its tokenizer_config.json beside it."""
    train: TokenizerTraining | None = None
    imported: bool = False
    """The one that comes with the model of `start`."""
    bos: bool = True
    """Begin each document with BOS, as Llama tooling does at inference."""
    eos: bool = True
    """End each document with EOS."""

    @model_validator(mode="after")
    def _one_origin(self) -> Tokenizer:
        if sum(origin is not None for origin in (self.builtin, self.file, self.train)) + self.imported != 1:
            raise ValueError("give exactly one of builtin, file, train or imported")
        return self


class Source(_Section):
    """Documents of one kind: files by pattern, or a builtin source that fetches its own."""

    builtin: str | None = None
    files: str | None = None
    """A path, a glob or a URL (`hf://datasets/…`, `s3://…`); a directory stands for every readable file in it."""
    text_field: str = "text"
    """Field of JSON and Parquet documents that holds the text; dots reach into nested objects."""
    where: str | None = None
    """Which documents to keep, by their fields, e.g. `meta.redpajama_set_name != "RedPajamaGithub"`; see `Filter`."""
    limit: PositiveCount | None = None
    """Stop after the document that reaches this many characters."""

    @model_validator(mode="after")
    def _one_origin(self) -> Source:
        if (self.builtin is None) == (self.files is None):
            raise ValueError("give exactly one of builtin or files")
        if self.builtin is not None and self.where is not None:
            raise ValueError("where needs documents with fields; a builtin source has none")
        return self

    @field_validator("where")
    @classmethod
    def _reads_as_a_filter(cls, where: str | None) -> str | None:
        if where is not None:
            Filter(where)
        return where


class HeldOut(_Section):
    """The part of a corpus that is never trained on, chosen by hash so that neighbours stay together."""

    share: Share
    by: Literal["document", "block"] = "document"
    """`document`: whole source documents. `block`: runs of `block` consecutive pieces of one document."""
    block: PositiveCount = 16

    @field_validator("share")
    @classmethod
    def _some_left(cls, share: Fraction) -> Fraction:
        if not 0 < share <= Fraction(1, 2):
            raise ValueError("the held-out share must be above 0% and at most 50%")
        return share


class Corpus(_Section):
    """Text under one name, tokenized into one stream."""

    sources: Annotated[list[Source], Field(min_length=1)]
    size: PositiveCount
    """Tokens to train on: an estimate until the corpus is prepared."""
    cut: PositiveCount | None = None
    """Cut longer documents into pieces of at most this many characters, at line ends where possible."""
    max_damaged: Share = Fraction(1, 10)
    """Preparation stops where a larger share of the documents is damaged."""
    held_out: HeldOut
    license: str


class LearningRate(_Section):
    """One cosine over tokens with a linear warm-up; a pure function of tokens seen."""

    peak: Annotated[Number, Field(gt=0)]
    minimum: Annotated[Number, Field(ge=0)]
    warmup: Count
    """Tokens."""
    horizon: PositiveCount
    """Tokens at which the minimum is reached; stated, so that extending a stage never bends the curve."""

    @model_validator(mode="after")
    def _falls(self) -> LearningRate:
        if self.minimum >= self.peak:
            raise ValueError(f"minimum ({self.minimum:g}) must be below peak ({self.peak:g})")
        if self.warmup >= self.horizon:
            raise ValueError(f"warmup ({self.warmup}) must be below horizon ({self.horizon})")
        return self


class Optimizer(_Section):
    """Decoupled weight decay on every parameter; one learning rate for all."""

    kind: Literal["adamw", "muon"] = "adamw"
    """`muon` orthogonalizes the updates of the blocks' matrices, and leaves embeddings, head and norms to AdamW."""
    learning_rate: LearningRate
    betas: tuple[Number, Number] = (0.9, 0.95)
    eps: Annotated[Number, Field(gt=0)] = 1e-8
    weight_decay: Annotated[Number, Field(ge=0)] = 0.1
    clip: Annotated[Number, Field(gt=0)] = 1.0
    """Global norm that gradients are clipped to."""


class Stage(_Section):
    """A span of tokens with one batch size."""

    name: Name
    until: PositiveCount
    """Total tokens seen at which the stage ends (with the first step that reaches it)."""
    batch: BatchSize
    fork: bool = False
    """Variants leave the shared base at the start of this stage."""
    ramp: Count = 0
    """Tokens over which shares move linearly from the base's to the variant's, from the fork on."""

    @model_validator(mode="after")
    def _ramp_needs_fork(self) -> Stage:
        if self.ramp and not self.fork:
            raise ValueError("ramp belongs to the stage with fork: true")
        return self


class Evaluation(_Section):
    """What is measured during and after training."""

    every: PositiveCount
    """Tokens between held-out losses during training."""
    rows: PositiveCount = 32
    """Held-out rows per corpus for those (the final matrix uses every row)."""
    tasks: list[str] = ["commonsense"]
    tasks_every: PositiveCount | None = None
    """Tokens between task scores during training, measured in the background; null: only after it."""
    data: str = "data/eval"
    """Folder with local copies of the tasks' data."""
    prompts: list[str] = []
    """Prompts that every model continues in the report."""


class Hardware(_Section):
    """How to run; nothing here changes which rows are seen."""

    micro_batch: PositiveCount | Literal["auto"] = "auto"
    """Sequences per forward pass."""
    threads: PositiveCount | Literal["auto"] = "auto"
    compile: bool = True
    shard: Literal["node", "all", "none"] | PositiveCount = "node"
    """Ranks that weights, gradients and moments are divided among; groups of so many are replicas of each other."""
    activation_checkpointing: bool = False
    """Keep only the input of each block for the backward pass, and compute the rest again."""
    collective_timeout: PositiveCount = 600
    """Seconds after which ranks that wait for another give up."""

    def sharded_over(self, ranks: int, ranks_per_node: int) -> int:
        """How many ranks share one copy of the state.

        Raises:
            RecipeError: that number does not divide the ranks.
        """
        sizes = {"node": ranks_per_node, "all": ranks, "none": 1}
        size = sizes[self.shard] if isinstance(self.shard, str) else self.shard
        if ranks % size:
            raise RecipeError(
                f"hardware.shard: {self.shard} means groups of {size} ranks, which do not divide {ranks} ranks; "
                f"give a divisor of {ranks}, or all"
            )
        return size


class Checkpoints(_Section):
    """When to save and how much to keep; stage ends are always kept."""

    every: PositiveCount
    """Tokens."""
    keep: PositiveCount = 2
    permanent: PositiveCount | None = None
    """Tokens between checkpoints that are kept for ever."""
    url: Annotated[str, Field(pattern=r"^[a-z][a-z0-9+.-]*://.")] | None = None
    """Where checkpoints are kept instead of the family's folder: a URL of any fsspec file system (`s3://…`)."""


class Spikes(_Section):
    """What to do about loss spikes: steps that would harm the weights, found before their update.

    A step is a spike if its loss or gradient norm is not finite, or if its loss is more than `sigmas` standard
    deviations above the mean loss of the last `window` updates of its stage. Steps left out keep their place in the
    plan: their tokens count as seen, and the learning rate of later steps stays what it is.
    """

    policy: Literal["none", "skip", "rollback-and-skip"] = "none"
    """`none`: losses are not watched, and what is not finite ends the run. `skip`: the step's update is left out.
    `rollback-and-skip`: the weights go back to the last planned checkpoint, and all steps since then are left out
    (Chowdhery et al. 2022, "PaLM", section 5.1)."""
    sigmas: Annotated[Number, Field(gt=0)] = 6.0
    window: Annotated[Count, Field(ge=2)] = 128
    """Updates; until a stage has had so many, only what is not finite is a spike."""


class Logging(_Section):
    """Where metrics go beside metrics.jsonl."""

    tensorboard: bool = True
    wandb: str | None = None
    """A Weights & Biases project (needs the `wandb` extra)."""


class Start(_Section):
    """A model that training goes on from, instead of random weights."""

    model: str
    """A Hugging Face folder or hub id, a GGUF file, or a checkpoint `…/checkpoints/step-<n>` of another run."""
    tokens: Annotated[Count, Field(ge=0)]
    """Tokens that the model is taken to have seen: where the plan and its learning rate begin."""
    moments: Literal["fresh", "kept"] = "fresh"
    """The optimizer's: zeros, or those of the checkpoint (only ours have any)."""
    rewarm: Annotated[Count, Field(ge=0)] = 0
    """Tokens over which the learning rate rises linearly from 0 to the schedule's."""


Shares = dict[Name, Share]


class Recipe(_Section):
    """A whole family."""

    name: Name
    description: str
    license: str
    """Of the trained models, as an SPDX-like identifier of the hub."""
    seed: int = 0
    model: ModelShape
    tokenizer: Tokenizer
    corpora: Annotated[dict[Name, Corpus], Field(min_length=1)]
    document_masking: bool = False
    """Keep attention inside each document."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """Of matrix products; weights, moments and reductions stay fp32."""
    optimizer: Optimizer
    start: Start | None = None
    base: Shares
    stages: Annotated[list[Stage], Field(min_length=1)]
    variants: Annotated[dict[Name, Shares], Field(min_length=1)]
    evaluation: Evaluation
    hardware: Hardware = Hardware()
    checkpoints: Checkpoints
    spikes: Spikes = Spikes()
    logging: Logging = Logging()

    def batch_sequences(self, stage: Stage) -> int:
        """Sequences in one step of a stage."""
        return stage.batch.amount if stage.batch.unit == "sequences" else stage.batch.amount // self.model.context

    @property
    def micro_batch(self) -> int:
        """Sequences per pass: as stated, or about 8,192 tokens, which keep a processor busy without filling memory."""
        stated = self.hardware.micro_batch
        return stated if isinstance(stated, int) else max(1, 8192 // self.model.context)

    @property
    def start_sequences(self) -> int:
        """Sequences seen before the first step: the start's tokens in whole sequences, rounded up."""
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
    def _corpora_exist(cls, value: dict[str, object], info: ValidationInfo) -> dict[str, object]:
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
                "exactly one stage must say fork: true; only a recipe with a start may have it on the first stage"
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
                "tokenizer.imported is the one of the start's model: add a start, or name another tokenizer"
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
