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
    corpora: list[Name] = Field(default=[])
    """Corpora to learn from; empty means all."""


class Tokenizer(Section):
    """Where the tokenizer comes from; exactly one of the four."""

    builtin: Annotated[Literal["llama2"] | None, _BY_HASH] = None
    file: Annotated[str | None, _BY_HASH] = None
    """A SentencePiece `tokenizer.model`, or a tokenizer.json with its tokenizer_config.json beside it."""
    train: Annotated[TokenizerTraining | None, _BY_HASH] = None
    imported: Annotated[bool, _BY_HASH] = False
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


class Source(Section):
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


class HeldOut(Section):
    """The part of a corpus that is never trained on, chosen by hash so that neighbors stay together."""

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


class Corpus(Section):
    """Text under one name, tokenized into one stream."""

    sources: Annotated[list[Source], Field(min_length=1)]
    size: Annotated[PositiveCount, DECIDES_NOTHING]
    """Tokens to train on: an estimate until the corpus is prepared."""
    cut: PositiveCount | None = None
    """Cut longer documents into pieces of at most this many characters, at line ends where possible."""
    max_damaged: Annotated[Share, DECIDES_NOTHING] = Fraction(1, 10)
    """Preparation stops where a larger share of the documents is damaged."""
    held_out: HeldOut
    license: Annotated[str, DECIDES_NOTHING]
