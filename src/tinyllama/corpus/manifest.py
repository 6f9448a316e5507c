"""A corpus on disk: its manifest, written last, and the files that the manifest vouches for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from pydantic import ConfigDict, JsonValue, SerializerFunctionWrapHandler, field_validator, model_serializer

from tinyllama.corpus.legacy import FORMAT_1, identity, rounded_share, upgraded
from tinyllama.corpus.rows import Rows
from tinyllama.corpus.shards import ShardEntry, TokenStream
from tinyllama.corpus.signatures import SIGNATURES
from tinyllama.errors import CorpusError
from tinyllama.folders import FolderKind
from tinyllama.record_files import FileEntry, FileRecord, parse_record, read_object, write_record

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.layout import FamilyLayout

MANIFEST = "manifest.json"
RESPELLED = "respelled"
SPLITS = TRAIN, HELD_OUT = "train", "held_out"
_REMEDY = "prepare the corpus again"


class CorpusRequest(FileRecord):
    """What decides a corpus: another request makes another corpus.

    Besides the keys below, it holds the keys of the recipe's corpus that decide its content, as the recipe spells
    them; see `recipe.classification.without_absent`.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, JsonValue]

    tokenizer: str
    """SHA-256 of the tokenizer."""
    bos: bool
    """Whether each document begins with BOS."""
    eos: bool
    """Whether each document ends with EOS."""

    def is_met_by(self, recorded: CorpusRequest) -> bool:
        """Whether a corpus that was prepared for the request `recorded` is what this one asks for."""
        return recorded == self or recorded.model_dump() == rounded_share(self.model_dump())


class FilesEntry(FileRecord):
    """A source that is files."""

    files: str
    """The recipe's path, glob or URL."""


class BuiltinEntry(FileRecord):
    """A builtin source."""

    version: str
    """Of its text; after the name of the builtin source that was read, if that is not the recipe's."""
    sha256: str
    license: str
    replaces: str | None = None
    """Name of the builtin source in the recipe that was unavailable; absent if its own text was read."""

    @model_serializer(mode="wrap")
    def _omit_what_earlier_versions_lack(self, write: SerializerFunctionWrapHandler) -> dict[str, JsonValue]:
        return _without_absent(write(self), "replaces")


class EngineEntry(FileRecord):
    """What encoded the text."""

    name: str
    """Library and version."""
    checked: int
    """Documents whose ids were compared with those of the tokenizer's own library."""


class SplitEntry(FileRecord):
    """The training or the held-out part of a corpus."""

    documents: int
    tokens: int
    bytes: int
    """UTF-8 bytes of the text."""
    shards: tuple[ShardEntry, ...]


class QualityEntry(FileRecord):
    """What the keys `filters`, `pii`, `decontaminate` and `deduplicate` did."""

    dropped: dict[str, int]
    """Documents that are not in the corpus, by reason."""
    shortened: int
    """Documents of which rules removed lines."""
    masked: int
    """Documents in which addresses were replaced."""
    questions: str | None
    """SHA-256 of the questions in `decontaminate`."""
    before: dict[str, str]
    """Corpora whose documents are first copies → their identities."""
    libraries: dict[str, str]
    """Version of each package that decided something."""


class CorpusManifest(FileRecord):
    """`manifest.json`: what a corpus is, what it was made from, and its files."""

    FORMAT: ClassVar[int] = 2

    format: int = FORMAT
    corpus: str
    """Name of the corpus in the recipe."""
    license: str
    request: CorpusRequest
    bos_id: int
    eos_id: int
    rejected: int
    """Documents and files that the corpus does not hold."""
    quarantined: dict[str, int]
    """Entries in `rejected.jsonl` by kind; those of the kind `repaired` are in the corpus. And, as RESPELLED, documents
    of the corpus, copies included, that the tokenizer does not spell back as they are, which have no entries."""
    sources: tuple[FilesEntry | BuiltinEntry, ...]
    held_out_documents: tuple[int, ...] = ()
    """Of each source, in their order, which is that of the documents; empty if an earlier version wrote this."""
    engine: EngineEntry
    dtype: str
    """NumPy's name of the type of a token."""
    splits: dict[str, SplitEntry]
    """`train` and `held_out`."""
    files: dict[str, FileEntry]
    """Every file of the corpus but the manifest, by name."""
    quality: QualityEntry | None = None
    """What became of documents by their text; absent if the corpus has none of these keys."""

    @model_serializer(mode="wrap")
    def _omit_what_earlier_versions_lack(self, write: SerializerFunctionWrapHandler) -> dict[str, JsonValue]:
        return _without_absent(write(self), "quality")

    @property
    def replacements(self) -> dict[str, str]:
        """Builtin source in the recipe that was unavailable → what the corpus holds instead, with its license."""
        entries = (entry for entry in self.sources if isinstance(entry, BuiltinEntry))
        return {entry.replaces: f"{entry.version} ({entry.license})" for entry in entries if entry.replaces is not None}

    @field_validator("splits")
    @classmethod
    def _has_both(cls, splits: dict[str, SplitEntry]) -> dict[str, SplitEntry]:
        if missing := [split for split in SPLITS if split not in splits]:
            raise ValueError(f"the split {missing[0]} is missing")
        return splits


def _without_absent(written: dict[str, JsonValue], key: str) -> dict[str, JsonValue]:
    """What is written of a record: without a key that earlier versions lack, if it has no value."""
    return {name: value for name, value in written.items() if name != key or value is not None}


class Separator(NamedTuple):
    """The token by which the documents of a stream are told apart."""

    token: int
    """BOS, or EOS where documents have no BOS."""
    ends: bool
    """Whether it is the last token of a document, not the first."""


@dataclass(frozen=True)
class PreparedCorpus:
    """A complete corpus: folder and manifest."""

    folder: Path
    manifest: CorpusManifest

    @property
    def name(self) -> str:
        """The corpus's name in the recipe."""
        return self.manifest.corpus

    @property
    def sha256(self) -> str:
        """Identity of the corpus: the hash of its manifest, which holds the hashes of all its files.

        Earlier versions did not write `held_out_documents`, which follow from the files.
        """
        return identity(self.manifest.model_dump(mode="json", exclude={"held_out_documents"}))

    @property
    def separator(self) -> Separator:
        """The token between documents; means nothing if the corpus has neither BOS nor EOS."""
        manifest = self.manifest
        return Separator(manifest.bos_id, ends=False) if manifest.request.bos else Separator(manifest.eos_id, ends=True)

    def tokens(self, split: str) -> int:
        """Tokens in a split (`train` or `held_out`)."""
        return self.manifest.splits[split].tokens

    def text_bytes(self, split: str) -> int:
        """UTF-8 bytes of a split's text."""
        return self.manifest.splits[split].bytes

    def rows(self, split: str, context: int) -> Rows:
        """The rows of a split.

        Raises:
            CorpusError: the split is shorter than a row.
        """
        return Rows(self.stream(split), context, f"corpus {self.name} ({split})")

    def stream(self, split: str) -> TokenStream:
        """The tokens of a split, one document after another."""
        shards = self.manifest.splits[split].shards
        return TokenStream(
            [self.folder / shard.file for shard in shards],
            [shard.tokens for shard in shards],
            np.dtype(self.manifest.dtype),
        )


def _is_corpus(folder: Path) -> bool:
    """Whether a folder holds a corpus that this or an earlier version wrote, even a damaged one."""
    try:
        value = read_object(folder / MANIFEST, CorpusError, _REMEDY)
    except FileNotFoundError:
        return False
    except CorpusError:  # damaged, if all else is as we write it
        return folder.is_dir() and all(CORPUS_FOLDER.writes(file.name) for file in folder.iterdir())
    return {"corpus", "request", "splits"} <= value.keys()


CORPUS_FOLDER = FolderKind(
    "a corpus",
    (MANIFEST, "files.jsonl", "rejected.jsonl", SIGNATURES, "*.documents.parquet", *(f"{s}-*.bin" for s in SPLITS)),
    _is_corpus,
)


def is_prepared(folder: Path) -> bool:
    """Whether a complete corpus is in a folder: its manifest is written last."""
    return (folder / MANIFEST).is_file()


def prepared_versions(layout: FamilyLayout, name: str) -> list[Path]:
    """The folders of a family's complete preparations of a corpus, oldest first."""
    return list(filter(is_prepared, layout.corpus_versions(name)))


def open_corpus(folder: Path) -> PreparedCorpus:
    """Open a prepared corpus and check its manifest and the sizes of its files; takes milliseconds at any size.

    Raises:
        CorpusError: there is no complete corpus, its manifest cannot be used, or a file has another size.
    """
    path = folder / MANIFEST
    try:
        manifest = read_manifest(path)
    except FileNotFoundError:
        raise CorpusError(f"{folder}: no complete corpus is here; run `tinyllama prepare`") from None
    for name, entry in manifest.files.items():
        file = folder / name
        size = file.stat().st_size if file.is_file() else None
        if size != entry.bytes:
            raise CorpusError(f"{file}: {size} bytes, expected {entry.bytes}; {_REMEDY}")
    return PreparedCorpus(folder, manifest)


def read_manifest(path: Path) -> CorpusManifest:
    """The manifest in a file, of format 1 or 2.

    Raises:
        FileNotFoundError: the file does not exist.
        NewerFormatError: a later version wrote it.
        CorpusError: the manifest cannot be used; the message names the file and the key.
    """
    value = read_object(path, CorpusError, _REMEDY)
    if value.get("format") == FORMAT_1:
        value = upgraded(value, CorpusManifest.FORMAT)
    return parse_record(CorpusManifest, value, path, CorpusError, _REMEDY)


def write_manifest(folder: Path, manifest: CorpusManifest) -> None:
    """Write the manifest into the folder of a corpus; every other file must be there."""
    write_record(folder / MANIFEST, manifest)
