"""Keys about text: corpora, their sources, and the tokenizer."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tinyllama.recipe.classification import DECIDES_NOTHING, RepresentedBy
from tinyllama.recipe.filters import Filter
from tinyllama.recipe.quantities import Share
from tinyllama.recipe.section import Name, PositiveCount, Section

_BY_HASH = RepresentedBy("the tokenizer's hash")


class TokenizerTraining(Section):
    """Train a Llama-style SentencePiece BPE on the recipe's own corpora."""

    vocab_size: PositiveCount
    """Ids of the trained tokenizer, equal to `model.vocab_size`."""
    corpora: list[Name] = Field(default=[])
    """Corpora to train on; an empty list means all."""


class TokenizerSettings(Section):
    """Where the tokenizer comes from; exactly one of the four."""

    builtin: Annotated[Literal["llama2"] | None, _BY_HASH] = None
    """Llama 2's own tokenizer."""
    file: Annotated[str | None, _BY_HASH] = None
    """Path of a SentencePiece `tokenizer.model`, or of a tokenizer.json with its tokenizer_config.json beside it."""
    train: Annotated[TokenizerTraining | None, _BY_HASH] = None
    """Train a SentencePiece tokenizer on the recipe's corpora."""
    imported: Annotated[bool, _BY_HASH] = False
    """Whether to use the tokenizer of the model of `start`."""
    bos: bool = True
    """Whether each document begins with BOS, as Llama's tools do at inference."""
    eos: bool = True
    """Whether each document ends with EOS."""

    @model_validator(mode="after")
    def _one_origin(self) -> TokenizerSettings:
        if sum(origin is not None for origin in (self.builtin, self.file, self.train)) + self.imported != 1:
            raise ValueError("give exactly one of builtin, file, train or imported")
        return self


class Source(Section):
    """Documents of one kind: files by pattern, or a builtin source that fetches its own."""

    builtin: str | None = None
    """Name of a builtin source; give either this or `files`."""
    files: str | None = None
    """A path, a glob or a URL (`hf://datasets/…`, `s3://…`); a directory means every readable file in it."""
    text_field: str = "text"
    """Field of JSON, Parquet and Arrow documents that holds the text; dots reach into nested objects."""
    where: str | None = None
    """Expression over a document's fields that selects documents: `meta.redpajama_set_name != "RedPajamaGithub"`.
    See `Filter` for what it may use."""
    limit: PositiveCount | None = None
    """Characters after which the source ends, with the document that reaches them."""

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


class HeldOut(Section):
    """The part of a corpus that is never trained on, chosen by hash so that neighbors stay together."""

    share: Share
    """Percentage of the corpus that is held out, above 0% and at most 50%."""
    by: Literal["document", "block"] = "document"
    """Unit that is held out: whole documents, or blocks of `block` consecutive pieces of one document."""
    block: PositiveCount = 16
    """Pieces of a document in a block."""

    @field_validator("share")
    @classmethod
    def _some_left(cls, share: Fraction) -> Fraction:
        if not 0 < share <= Fraction(1, 2):
            raise ValueError("the held-out share must be above 0% and at most 50%")
        return share


class Corpus(Section):
    """Text under one name, tokenized into one stream."""

    sources: Annotated[list[Source], Field(min_length=1)]
    """Sources of the text, read in order."""
    size: Annotated[PositiveCount, DECIDES_NOTHING]
    """Training tokens, an estimate until the corpus is prepared."""
    cut: PositiveCount | None = None
    """Characters above which a document is cut into pieces, at line ends where possible."""
    max_damaged: Annotated[Share, DECIDES_NOTHING] = Fraction(1, 10)
    """Percentage of damaged documents above which preparation stops."""
    held_out: HeldOut
    """The part that is never trained on."""
    license: Annotated[str, DECIDES_NOTHING]
    """License of the text; model cards name it."""
