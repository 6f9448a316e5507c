"""Prepare a corpus: documents → token ids → shards, an index of documents, and the manifest, written last."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TextIO

from tinyllama.corpus.builtin import builtin_facts
from tinyllama.corpus.documents import read_documents
from tinyllama.corpus.held_out import is_held_out
from tinyllama.corpus.manifest import (
    FORMAT,
    HELD_OUT,
    MANIFEST,
    TRAIN,
    PreparedCorpus,
    file_facts,
    open_corpus,
)
from tinyllama.corpus.shards import ShardWriter, token_dtype
from tinyllama.errors import CorpusError
from tinyllama.files import new_directory, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tinyllama.corpus.documents import Document, Rejected
    from tinyllama.corpus.tokenizer import TextTokenizer
    from tinyllama.recipe import Corpus, Recipe

_BATCH_CHARACTERS = 4_000_000
"""Text tokenized at a time; bounds memory and keeps all cores busy."""


class _Quarantine:
    """Writes every rejected document to a file, with its reason, and counts them."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.count = 0

    def __call__(self, rejected: Rejected) -> None:
        self._file.write(json.dumps(asdict(rejected), ensure_ascii=False) + "\n")
        self.count += 1


class _Split:
    """Shards and document index of one half of a corpus, while they are being written."""

    def __init__(self, folder: Path, name: str, vocab_size: int) -> None:
        self.name = name
        self.writer = ShardWriter(folder, name, token_dtype(vocab_size))
        self.bytes = 0
        self.index: dict[str, list[Any]] = {key: [] for key in ("start", "tokens", "bytes", "origin", "group", "part")}

    def add(self, document: Document, ids: list[int]) -> None:
        """Append one document's ids, BOS and EOS included."""
        size = len(document.text.encode())
        entry = (self.writer.tokens, len(ids), size, document.origin, document.group, document.part)
        for key, value in zip(self.index, entry, strict=True):
            self.index[key].append(value)
        self.writer.append(ids)
        self.bytes += size

    def finish(self, folder: Path) -> dict[str, Any]:
        """Close shards, write `<split>.documents.parquet`, and tell the manifest's entry."""
        import pyarrow as pa  # noqa: PLC0415  # slow to import, needed only here
        from pyarrow import parquet  # noqa: PLC0415

        self.writer.close()
        parquet.write_table(pa.table(self.index), folder / f"{self.name}.documents.parquet", compression="zstd")
        return {
            "documents": len(self.index["start"]),
            "tokens": self.writer.tokens,
            "bytes": self.bytes,
            "shards": self.writer.shards,
        }


def prepare_corpus(  # noqa: PLR0913, PLR0917  # each is named where it is called
    recipe: Recipe,
    name: str,
    tokenizer: TextTokenizer,
    folder: Path,
    root: Path,
    progress: Callable[[int, int], None] = lambda _documents, _bytes: None,
) -> PreparedCorpus:
    """Prepare one corpus of a recipe into `folder`, unless exactly that is there already.

    Args:
        recipe: the recipe.
        name: the corpus's name in it.
        tokenizer: the family's tokenizer.
        folder: where the corpus goes; complete or not there.
        root: folder that the recipe's relative paths start from.
        progress: told documents and bytes of text so far.

    Raises:
        CorpusError: no document could be read, or a pattern matches nothing.
        SourceError: a builtin source cannot be had.
    """
    corpus = recipe.corpora[name]
    request = _request(recipe, corpus, tokenizer)
    present = _present(folder, request)
    if present is not None:
        return present
    with new_directory(folder) as beside, ExitStack() as stack:
        splits = {split: _Split(beside, split, tokenizer.vocab_size) for split in (TRAIN, HELD_OUT)}
        for entry in splits.values():
            stack.callback(entry.writer.close)
        with (beside / "rejected.jsonl").open("w", encoding="utf-8") as rejected:
            count = _fill(recipe, name, tokenizer, root, splits, _Quarantine(rejected), progress)
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "corpus": name,
            "license": corpus.license,
            "request": request,
            "dtype": token_dtype(tokenizer.vocab_size).name,
            "bos_id": tokenizer.bos_id,
            "eos_id": tokenizer.eos_id,
            "splits": {split: entry.finish(beside) for split, entry in splits.items()},
            "rejected": count,
            "sources": [builtin_facts(s.builtin) if s.builtin else {"files": s.files} for s in corpus.sources],
            "engine": f"sentencepiece {version('sentencepiece')}",
        }
        if not manifest["splits"][TRAIN]["documents"]:
            raise CorpusError(f"corpus {name}: no document could be read ({count} rejected); check its sources")
        manifest["files"] = file_facts(beside)
        write_json(beside / MANIFEST, manifest)
    return open_corpus(folder)


def _fill(  # noqa: PLR0913, PLR0917  # the pipeline's stations
    recipe: Recipe,
    name: str,
    tokenizer: TextTokenizer,
    root: Path,
    splits: dict[str, _Split],
    quarantine: _Quarantine,
    progress: Callable[[int, int], None],
) -> int:
    """Read, tokenize and write every document; returns how many were rejected."""
    corpus = recipe.corpora[name]
    head = [tokenizer.bos_id] if recipe.tokenizer.bos else []
    tail = [tokenizer.eos_id] if recipe.tokenizer.eos else []
    documents = size = 0
    for batch in _batches(read_documents(corpus, root, quarantine, name=name)):
        for document, ids in zip(batch, tokenizer.encode([item.text for item in batch]), strict=True):
            split = HELD_OUT if is_held_out(document, corpus.held_out, name) else TRAIN
            splits[split].add(document, head + ids + tail)
            size += len(document.text.encode())
        documents += len(batch)
        progress(documents, size)
    return quarantine.count


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


def _request(recipe: Recipe, corpus: Corpus, tokenizer: TextTokenizer) -> dict[str, Any]:
    """What decides a prepared corpus: another request makes another corpus."""
    return {
        "sources": [source.model_dump(mode="json") for source in corpus.sources],
        "cut": corpus.cut,
        "held_out": corpus.held_out.model_dump(mode="json"),
        "tokenizer": tokenizer.sha256,
        "bos": recipe.tokenizer.bos,
        "eos": recipe.tokenizer.eos,
    }


def _present(folder: Path, request: dict[str, Any]) -> PreparedCorpus | None:
    """The corpus in `folder` if it is complete and of this request."""
    try:
        corpus = open_corpus(folder)
    except CorpusError:
        return None
    return corpus if corpus.manifest["request"] == request else None
