"""One task of a preparation: its documents → token ids in a folder of their own, complete or not there."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tinyllama.corpus.index import INDEX_COLUMNS, index_file, index_schema
from tinyllama.corpus.manifest import HELD_OUT, SPLITS, TRAIN
from tinyllama.corpus.shards import SHARD_SUFFIX, ShardWriter, token_dtype
from tinyllama.errors import CorpusError
from tinyllama.files import new_directory, unique_mark, write_json
from tinyllama.prepare.held_out import is_held_out
from tinyllama.sources.documents import read_task, utf8_bytes
from tinyllama.sources.rejected import Quarantine
from tinyllama.tokenizer.bulk import CheckedEncoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tinyllama.recipe import Corpus
    from tinyllama.sources.documents import Document, Task
    from tinyllama.tokenizer.base import Tokenizer
    from tinyllama.tokenizer.bulk import Encoded, Engine

RESULT, REJECTED, FILES = "task.json", "rejected.jsonl", "files.jsonl"

_TASK = "task-"
_BATCH_CHARACTERS = 1_000_000
"""Text tokenized at a time: little enough to stay in a processor's cache on its way, enough for all cores."""


class Counts(NamedTuple):
    """What a task, or several, have done so far."""

    documents: int = 0
    bytes: int = 0
    """Of text, in UTF-8."""
    tokens: int = 0
    read: int = 0
    """Bytes of source files, whose tasks are done."""
    unread: int = 0
    """Bytes of source files, whose tasks are not."""

    def __add__(self, other: object) -> Counts:
        """What both have done."""
        if not isinstance(other, Counts):
            return NotImplemented
        return Counts(*(mine + its for mine, its in zip(self, other, strict=True)))


@dataclass(frozen=True)
class Settings:
    """What all tasks of a preparation share."""

    corpus: Corpus
    name: str
    bos: bool
    eos: bool
    work: Path
    """Where the tasks' folders are."""
    exact_all: bool


def task_folder(work: Path, index: int) -> Path:
    """Where a task leaves what it made."""
    return work / f"{_TASK}{index:06d}"


def finished_task(work: Path, index: int) -> dict[str, Any] | None:
    """The result of a task, or None if it is not done."""
    path = task_folder(work, index) / RESULT
    result: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return result


def finished_tasks(work: Path) -> set[int]:
    """Which tasks are done; one look, however many there are."""
    return {int(folder.name.removeprefix(_TASK)) for folder in work.glob(f"{_TASK}*")}


def task_counts(result: dict[str, Any]) -> Counts:
    """What a task that is done has done."""
    parts = result["splits"].values()
    documents, size, tokens = (sum(part[key] for part in parts) for key in ("documents", "bytes", "tokens"))
    return Counts(documents, size, tokens, result["input_bytes"])


class _Split:
    """Tokens and document index of one half of a task, while they are being written."""

    def __init__(self, folder: Path, name: str, vocab_size: int, head: list[int], tail: list[int]) -> None:
        self._folder, self._name = folder, name
        self._head, self._tail = head, tail
        self._dtype = token_dtype(vocab_size)
        self.writer = ShardWriter(folder, name, self._dtype)
        self._bytes = 0
        self._rows: list[tuple[int, int, int, str, str, int]] = []
        """Of the index: values of `INDEX_COLUMNS`."""

    def add(self, documents: Sequence[tuple[Document, int, NDArray[np.uint32]]]) -> None:
        """Append documents: each with its bytes of text and its ids without BOS and EOS."""
        head, around = len(self._head), len(self._head) + len(self._tail)
        stream = np.empty(sum(len(ids) + around for _, _, ids in documents), self._dtype)
        at = 0
        for document, size, ids in documents:
            end = at + around + len(ids)
            stream[at : at + head], stream[end - len(self._tail) : end] = self._head, self._tail
            stream[at + head : at + head + len(ids)] = ids
            row = (self.writer.tokens + at, end - at, size, document.origin, document.group, document.part)
            self._rows.append(row)
            at, self._bytes = end, self._bytes + size
        self.writer.append(stream)

    def finish(self) -> dict[str, Any]:
        """Close the tokens, write the index, and tell the counts."""
        import pyarrow as pa
        from pyarrow import parquet

        self.writer.close()
        columns = list(zip(*self._rows, strict=True)) or [()] * len(INDEX_COLUMNS)
        table = pa.table(dict(zip(INDEX_COLUMNS, columns, strict=True)), schema=index_schema())
        parquet.write_table(table, self._folder / index_file(self._name), compression="zstd")
        return {
            "documents": len(self._rows),
            "tokens": self.writer.tokens,
            "bytes": self._bytes,
            "shards": self.writer.shards,
        }


def run_task(  # noqa: PLR0913, PLR0917  # the stations of a task
    settings: Settings,
    task: Task,
    index: int,
    tokenizer: Tokenizer,
    engine: Engine,
    progress: Callable[[Counts], None],
) -> None:
    """Read, tokenize and write the documents of a task, unless that is done.

    Leaves a folder with the tokens and the index of both splits, what was rejected, fingerprints of the files that
    were read, and the counts, written last.

    Raises:
        CorpusError: the engine's ids are not the tokenizer's.
        SourceError: a source cannot be had.
    """
    folder = task_folder(settings.work, index)
    if folder.is_dir():
        return
    head = [tokenizer.bos_id] if settings.bos else []
    tail = [tokenizer.eos_id] if settings.eos else []
    encoder = CheckedEncoder(tokenizer, engine, every=settings.exact_all)
    # Tokens do not wait for the disk: they are compared with their hashes when they become shards.
    partial = new_directory(folder, unique_mark(), keep=True, unflushed=SHARD_SUFFIX)
    with partial as beside, ExitStack() as stack:
        splits = {split: _Split(beside, split, tokenizer.vocab_size, head, tail) for split in SPLITS}
        for split in splits.values():
            stack.callback(split.writer.close)
        quarantine = Quarantine(stack.enter_context((beside / REJECTED).open("w", encoding="utf-8")))
        counts = Counts(unread=task.size)
        for batch in _batches(read_task(settings.corpus, task, quarantine, tokenizer)):
            encoded = encoder.encode([document.text for document in batch], [document.origin for document in batch])
            counts = _add_batch(settings, batch, _within(encoded, tokenizer), splits, counts)
            progress(counts)
        with (beside / FILES).open("w", encoding="utf-8") as files:
            for file in task.files:
                facts = {"file": file.origin, "bytes": file.bytes, "fingerprint": file.fingerprint()}
                files.write(json.dumps(facts, ensure_ascii=False) + "\n")
        result = {
            "splits": {name: split.finish() for name, split in splits.items()},
            "kept_aside": dict(quarantine.counts),
            "checked": encoder.checked,
            "input_bytes": task.size,
        }
        write_json(beside / RESULT, result)
    progress(task_counts(result))


def _within(encoded: Encoded, tokenizer: Tokenizer) -> Encoded:
    """The ids, if all are in the vocabulary; else they would be cut to 16 bits unseen."""
    if len(encoded.ids) and int(encoded.ids.max()) >= tokenizer.vocab_size:
        raise CorpusError(f"id {encoded.ids.max()} is outside a vocabulary of {tokenizer.vocab_size}; report this")
    return encoded


def _add_batch(
    settings: Settings, batch: list[Document], encoded: Encoded, splits: dict[str, _Split], counts: Counts
) -> Counts:
    """Append a batch to its splits, and count it on."""
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
    """Group documents so that each batch holds about `_BATCH_CHARACTERS`."""
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
