"""One task of a preparation: its documents → token ids in a folder of its own, which is complete or not there."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from tinyllama.corpus.index import index_file, index_schema
from tinyllama.corpus.manifest import HELD_OUT, RESPELLED, SPLITS, TRAIN, SplitEntry
from tinyllama.corpus.shards import SHARD_SUFFIX, ShardWriter, token_dtype
from tinyllama.errors import CorpusError
from tinyllama.files import new_directory
from tinyllama.prepare.copies import Signer
from tinyllama.prepare.held_out import is_held_out
from tinyllama.prepare.legacy import TASK_FORMAT_0, upgraded_result
from tinyllama.quality.overlap import QuestionIndex
from tinyllama.quality.refinement import Refinement
from tinyllama.record_files import FileRecord, parse_record, read_object, write_record
from tinyllama.sources.documents import read_task, utf8_bytes
from tinyllama.sources.rejected import Quarantine
from tinyllama.tokenizer.bulk import CheckedEncoder
from tinyllama.tokenizer.spelling import spells_back

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tinyllama.recipe import Corpus
    from tinyllama.sources.documents import Document, ReadTask
    from tinyllama.sources.rejected import Reject
    from tinyllama.tokenizer.base import Tokenizer
    from tinyllama.tokenizer.bulk import Encoded, Engine

RESULT, REJECTED, FILES = "task.json", "rejected.jsonl", "files.jsonl"
DOCUMENT = "document"
"""Column of a task's index: `Document.number`."""

_TASK = "task-"
_BATCH_CHARACTERS = 1_000_000
"""Characters that are tokenized at a time: few enough for a processor's cache, enough for all cores."""


class Counts(NamedTuple):
    """What one or several tasks have done so far."""

    documents: int = 0
    bytes: int = 0
    """UTF-8 bytes of the text."""
    tokens: int = 0
    read: int = 0
    """Bytes of source files whose tasks are finished."""
    unread: int = 0
    """Bytes of source files whose tasks are not finished."""

    def __add__(self, other: object) -> Counts:
        """What both have done together."""
        if not isinstance(other, Counts):
            return NotImplemented
        return Counts(*(mine + its for mine, its in zip(self, other, strict=True)))


class TaskResult(FileRecord):
    """`task.json`: what a finished task wrote."""

    FORMAT: ClassVar[int] = 1

    format: int = FORMAT
    splits: dict[str, SplitEntry]
    quarantined: dict[str, int]
    """Entries in the task's `rejected.jsonl`, by kind; and RESPELLED documents, which have none."""
    checked: int
    """Documents whose ids were compared with those of the tokenizer's own library."""
    input_bytes: int
    """Size of the source files."""
    dropped: dict[str, int] = Field(default={})
    """Documents that keys of the corpus dropped, by reason, and those that they changed."""

    @property
    def counts(self) -> Counts:
        """What the task did."""
        parts = self.splits.values()
        return Counts(
            documents=sum(part.documents for part in parts),
            bytes=sum(part.bytes for part in parts),
            tokens=sum(part.tokens for part in parts),
            read=self.input_bytes,
        )


@dataclass(frozen=True)
class TaskSettings:
    """What all tasks of a preparation share."""

    corpus: Corpus
    name: str
    """Name of the corpus."""
    tokenizer: Tokenizer
    bos: bool
    eos: bool
    work: Path
    """Folder of the tasks' folders."""
    exact_all: bool
    """Compare every document with the tokenizer's own library."""
    questions: Mapping[str, list[str]] = field(default_factory=dict)
    """Texts of the questions of each task in `decontaminate`."""
    libraries: Mapping[str, str] = field(default_factory=dict)
    """Version of each package that selects documents."""

    @cached_property
    def question_index(self) -> QuestionIndex | None:
        """What documents may not hold."""
        return QuestionIndex(self.questions) if self.questions else None


def task_folder(work: Path, index: int) -> Path:
    """The folder of a task's result."""
    return work / f"{_TASK}{index:06d}"


def finished_task(work: Path, index: int) -> TaskResult | None:
    """The result of a task, or None if it is not finished.

    Raises:
        CorpusError: the result cannot be used; the message names the file and the key.
    """
    path, remedy = task_folder(work, index) / RESULT, f"delete {work} and prepare the corpus again"
    try:
        value = read_object(path, CorpusError, remedy)
    except FileNotFoundError:
        return None
    if value.get("format", TASK_FORMAT_0) == TASK_FORMAT_0:
        value = upgraded_result(value, TaskResult.FORMAT)
    return parse_record(TaskResult, value, path, CorpusError, remedy)


def finished_tasks(work: Path) -> set[int]:
    """Indices of the finished tasks, by one listing of the work folder."""
    return {int(folder.name.removeprefix(_TASK)) for folder in work.glob(f"{_TASK}*")}


class _Split:
    """Tokens and document index of one split of a task, while they are written."""

    def __init__(self, folder: Path, name: str, vocab_size: int, head: list[int], tail: list[int]) -> None:
        self._folder, self._name = folder, name
        self._head, self._tail = head, tail
        self._dtype = token_dtype(vocab_size)
        self.writer = ShardWriter(folder, name, self._dtype)
        self._bytes = 0
        self._rows: list[tuple[int, int, int, str, str, int, int]] = []
        """Rows of the index: values of `INDEX_COLUMNS`, and the number of the document."""

    def add(self, documents: Sequence[tuple[Document, int, NDArray[np.uint32]]]) -> None:
        """Append documents, each with the bytes of its text and its ids without BOS and EOS."""
        head, around = len(self._head), len(self._head) + len(self._tail)
        stream = np.empty(sum(len(ids) + around for _, _, ids in documents), self._dtype)
        at = 0
        for document, size, ids in documents:
            end = at + around + len(ids)
            stream[at : at + head], stream[end - len(self._tail) : end] = self._head, self._tail
            stream[at + head : at + head + len(ids)] = ids
            place = (document.origin, document.group, document.part, document.number)
            self._rows.append((self.writer.tokens + at, end - at, size, *place))
            at, self._bytes = end, self._bytes + size
        self.writer.append(stream)

    def finish(self) -> SplitEntry:
        """Close the tokens, write the index, and return the counts."""
        import pyarrow as pa
        from pyarrow import parquet

        self.writer.close()
        schema = index_schema().append(pa.field(DOCUMENT, pa.int64()))
        columns = list(zip(*self._rows, strict=True)) or [()] * len(schema)
        table = pa.table(dict(zip(schema.names, columns, strict=True)), schema=schema)
        parquet.write_table(table, self._folder / index_file(self._name), compression="zstd")
        return SplitEntry(
            documents=len(self._rows), tokens=self.writer.tokens, bytes=self._bytes, shards=tuple(self.writer.shards)
        )


class _Selection:
    """Selects and changes the documents of a task by the keys of the corpus, and signs them."""

    def __init__(self, settings: TaskSettings) -> None:
        copies = settings.corpus.deduplicate
        self._refinement = Refinement(settings.corpus, settings.question_index)
        self._signer = Signer(copies) if copies is not None else None

    def __call__(self, documents: Iterable[Document], reject: Reject) -> Iterator[Document]:
        """The documents that are kept."""
        kept = self._refinement(documents, reject)
        return kept if self._signer is None else self._signer(kept)

    def finish(self, folder: Path) -> dict[str, int]:
        """Write the signatures, if there are any, and return the counts of the refinement."""
        if self._signer is not None:
            self._signer.write(folder)
        return dict(sorted((+self._refinement.counts).items()))


def run_task(
    settings: TaskSettings, task: ReadTask, index: int, engine: Engine, progress: Callable[[Counts], None]
) -> None:
    """Read, tokenize and write the documents of a task, unless it is finished.

    The task's folder then has the tokens and the index of both splits, the quarantine, fingerprints of the files that
    were read, and the result, written last.

    Raises:
        CorpusError: the engine's ids differ from the tokenizer's.
        SourceError: a source is unavailable.
    """
    folder, tokenizer = task_folder(settings.work, index), settings.tokenizer
    if folder.is_dir():
        return
    head = [tokenizer.bos_id] if settings.bos else []
    tail = [tokenizer.eos_id] if settings.eos else []
    encoder = CheckedEncoder(tokenizer, engine, every=settings.exact_all)
    # Tokens are not flushed to the disk: they are compared with their hashes when they become shards.
    partial = new_directory(folder, keep=True, unflushed=SHARD_SUFFIX)
    with partial as beside, ExitStack() as stack:
        splits = {split: _Split(beside, split, tokenizer.vocab_size, head, tail) for split in SPLITS}
        for split in splits.values():
            stack.callback(split.writer.close)
        quarantine = Quarantine(stack.enter_context((beside / REJECTED).open("w", encoding="utf-8")))
        counts, respelled, exact = Counts(unread=task.size), 0, spells_back(tokenizer)
        selection = _Selection(settings)
        for batch in _batches(read_task(settings.corpus, task, quarantine, tokenizer, selection)):
            encoded = encoder.encode([document.text for document in batch], [document.origin for document in batch])
            counts = _add_batch(settings, batch, _within(encoded, tokenizer), splits, counts)
            respelled += 0 if exact else _count_respelled(tokenizer, batch, encoded)
            progress(counts)
        with (beside / FILES).open("w", encoding="utf-8") as files:
            for file in task.files:
                line = {"file": file.origin, "bytes": file.bytes, "fingerprint": file.fingerprint()}
                files.write(json.dumps(line, ensure_ascii=False) + "\n")
        result = TaskResult(
            splits={name: split.finish() for name, split in splits.items()},
            quarantined=dict(quarantine.counts) | ({RESPELLED: respelled} if respelled else {}),
            checked=encoder.checked,
            input_bytes=task.size,
            dropped=selection.finish(beside),
        )
        write_record(beside / RESULT, result)
    progress(result.counts)


def _count_respelled(tokenizer: Tokenizer, batch: list[Document], encoded: Encoded) -> int:
    """How many documents of a batch do not decode to their text."""
    return sum(tokenizer.decode(encoded.of(index).tolist()) != document.text for index, document in enumerate(batch))


def _within(encoded: Encoded, tokenizer: Tokenizer) -> Encoded:
    """The ids, if all are in the vocabulary; others would be truncated to 16 bits unnoticed."""
    if len(encoded.ids) and int(encoded.ids.max()) >= tokenizer.vocab_size:
        raise CorpusError(f"id {encoded.ids.max()} is outside a vocabulary of {tokenizer.vocab_size}; report this")
    return encoded


def _add_batch(
    settings: TaskSettings, batch: list[Document], encoded: Encoded, splits: dict[str, _Split], counts: Counts
) -> Counts:
    """Append a batch to its splits, and add it to the counts."""
    added: dict[str, list[tuple[Document, int, NDArray[np.uint32]]]] = {split: [] for split in splits}
    size = 0
    for index, document in enumerate(batch):
        held_out = is_held_out(document, settings.corpus.held_out, settings.name)
        of_text = utf8_bytes(document.text)
        added[HELD_OUT if held_out else TRAIN].append((document, of_text, encoded.of(index)))
        size += of_text
    for split, documents in added.items():
        splits[split].add(documents)
    tokens = sum(split.writer.tokens for split in splits.values())
    return counts._replace(documents=counts.documents + len(batch), bytes=counts.bytes + size, tokens=tokens)


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    """Group documents into batches of about `_BATCH_CHARACTERS`."""
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
