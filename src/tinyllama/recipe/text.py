"""Keys for text: corpora, their sources and the tokenizer."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tinyllama.recipe.classification import DECIDES_NOTHING, Absent, Derived, RepresentedBy
from tinyllama.recipe.filters import Deduplication, Filter, Filters
from tinyllama.recipe.quantities import Flag, Share
from tinyllama.recipe.section import Dimension, Name, PathText, PositiveCount, Section, WrongKey

if TYPE_CHECKING:
    from collections.abc import Mapping

_BY_HASH = RepresentedBy("the tokenizer's hash")


class TokenizerTraining(Section):
    """A Llama-style SentencePiece BPE tokenizer, trained on the recipe's corpora."""

    vocab_size: Annotated[Dimension, Derived("`model.vocab_size`")]
    """Number of ids; must equal `model.vocab_size`."""
    corpora: list[Name] = Field(default=[])
    """Corpora to train on; an empty list means all."""


class TokenizerSettings(Section):
    """The source of the tokenizer: exactly one of `builtin`, `file`, `train` and `imported`."""

    builtin: Annotated[Literal["llama2"] | None, _BY_HASH] = None
    """Llama 2's tokenizer."""
    file: Annotated[PathText | None, _BY_HASH] = None
    """Path of a SentencePiece `tokenizer.model`, or of a `tokenizer.json` next to its `tokenizer_config.json`."""
    train: Annotated[TokenizerTraining | None, _BY_HASH] = None
    """Train a SentencePiece tokenizer on the recipe's corpora."""
    imported: Annotated[Flag, _BY_HASH] = False
    """Whether to use the tokenizer of the model in `start`."""
    bos: Flag = True
    """Whether each document begins with BOS, as prompts do in Llama tools at inference."""
    eos: Flag = True
    """Whether each document ends with EOS."""

    @model_validator(mode="after")
    def _one_origin(self) -> TokenizerSettings:
        if sum(origin is not None for origin in (self.builtin, self.file, self.train)) + self.imported != 1:
            raise ValueError("give exactly one of builtin, file, train or imported")
        return self


class Source(Section):
    """Documents of one kind: files by pattern, or a builtin source that obtains its own text."""

    builtin: str | None = None
    """Name of a builtin source; set exactly one of this and `files`."""
    files: PathText | None = None
    """A path, a glob or a URL (`hf://datasets/…`, `s3://…`); a directory means every readable file in it."""
    text_field: str = "text"
    """Field of JSON, Parquet and Arrow documents that contains the text; dots access nested objects."""
    where: str | None = None
    """Expression over a document's fields that selects documents: `meta.redpajama_set_name != "RedPajamaGithub"`.
    See `Filter` for the syntax."""
    limit: PositiveCount | None = None
    """Maximum number of characters; the source ends with the document that reaches it."""

    @model_validator(mode="after")
    def _one_origin(self) -> Source:
        if (self.builtin is None) == (self.files is None):
            raise ValueError("give exactly one of builtin or files")
        if self.builtin is not None and self.where is not None:
            raise ValueError("where applies to documents with fields; a builtin source has no fields")
        return self

    @field_validator("where")
    @classmethod
    def _reads_as_a_filter(cls, where: str | None) -> str | None:
        if where is not None:
            Filter(where)
        return where


class HeldOut(Section):
    """The part of a corpus that is never trained on; selected by hash so that neighbors stay together."""

    share: Share
    """Percentage of the corpus to hold out, above 0% and at most 50%."""
    by: Literal["document", "block"] = "document"
    """Unit to hold out: whole documents, or blocks of `block` consecutive pieces of one document."""
    block: PositiveCount = 16
    """Number of consecutive pieces per block."""

    @field_validator("share")
    @classmethod
    def _some_left(cls, share: Fraction) -> Fraction:
        if not 0 < share <= Fraction(1, 2):
            raise ValueError("the held-out share must be above 0% and at most 50%")
        return share


class Corpus(Section):
    """A named set of texts, tokenized into one stream."""

    sources: Annotated[list[Source], Field(min_length=1)]
    """Sources of the text, read in order."""
    size: Annotated[PositiveCount | None, DECIDES_NOTHING] = None
    """Number of training tokens; an estimate that is used until the corpus is prepared."""
    filters: Annotated[Filters | None, Absent(None)] = None
    """What a document needs to be in the corpus."""
    pii: Annotated[Literal["mask"] | None, Absent(None)] = None
    """Whether to replace addresses of e-mail and public IPv4 addresses, as datatrove does."""
    decontaminate: Annotated[list[str], Absent([])] = Field(default=[])
    """Evaluation tasks and groups; a document that holds 13 consecutive words of one of their questions is dropped."""
    deduplicate: Annotated[Deduplication | None, Absent(None)] = None
    """Whether to drop copies of documents: `exact`, `minhash`, or a section with a method and its settings."""
    cut: PositiveCount | None = None
    """Maximum characters per piece; longer documents are split, at line ends if possible."""
    max_damaged: Annotated[Share, DECIDES_NOTHING] = Fraction(1, 10)
    """Percentage of damaged documents above which preparation stops."""
    held_out: HeldOut
    """The part that is never trained on."""
    license: Annotated[str, DECIDES_NOTHING] = "unknown"
    """License of the text; appears in model cards."""


def corpora_before(corpora: Mapping[str, Corpus], name: str) -> list[str]:
    """The corpora whose documents count as first copies for those of a corpus, in the recipe's order."""
    own = corpora[name].deduplicate
    if own is None or not own.across:
        return []
    before = list(corpora)[: list(corpora).index(name)]
    return [other for other in before if corpora[other].deduplicate is not None]


def check_methods(corpora: Mapping[str, Corpus]) -> None:
    """Refuse corpora whose signatures cannot be compared.

    Raises:
        WrongKey: a corpus has another method, or other runs or bands, than one before it.
    """
    keys = {"method", "ngram", "bands", "rows"}
    for name, corpus in corpora.items():
        for other in corpora_before(corpora, name):
            theirs, ours = corpora[other].deduplicate, corpus.deduplicate
            if theirs and ours and theirs.model_dump(include=keys) != ours.model_dump(include=keys):
                raise WrongKey(
                    f"copies cannot be found across it and corpora.{other}.deduplicate, which has other settings; give "
                    "both the same, or set across: false",
                    *(name, "deduplicate"),
                )
