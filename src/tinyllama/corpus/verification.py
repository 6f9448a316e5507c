"""Verification of a prepared corpus: damage and inconsistencies, found by reading all of it or samples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tinyllama.corpus.index import index_file
from tinyllama.corpus.manifest import SPLITS
from tinyllama.corpus.reading import can_spell
from tinyllama.files import sha256_file
from tinyllama.tokenizer.spelling import spells_back

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from pyarrow import parquet

    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.corpus.shards import TokenStream
    from tinyllama.tokenizer.base import Tokenizer

_BATCH = 4096
"""Documents that are checked together."""
_DECODED = 4
"""Documents of each batch whose text is compared with the record."""
_SMALL = 1 << 24
"""Bytes up to which a file is hashed even where only samples are checked."""


class Finding(NamedTuple):
    """A problem of a corpus."""

    location: str
    """File, or split and document."""
    problem: str


def find_damage(corpus: PreparedCorpus, tokenizer: Tokenizer, samples: int | None = None) -> Iterator[Finding]:
    """The problems of a corpus.

    `open_corpus` refuses truncated files already. Found here: bit rot (SHA-256 of every file), another tokenizer (its
    hash, and the text that some documents decode to and encode back from, if it spells every text back), ids outside
    the vocabulary, special tokens anywhere but at the ends of documents (so padding too), empty documents, and an index
    that does not cover the tokens.

    Args:
        corpus: an open corpus.
        tokenizer: the family's tokenizer.
        samples: number of random runs of 4,096 documents to check in each split, all documents if they are no more,
            where only small files are hashed; None checks everything.
    """
    if tokenizer.sha256 != corpus.manifest.request.tokenizer:
        yield Finding("manifest.json", "the corpus was prepared with another tokenizer than the family's")
    for name, entry in corpus.manifest.files.items():
        wanted = samples is None or entry.bytes <= _SMALL
        if wanted and sha256_file(corpus.folder / name) != entry.sha256:
            yield Finding(name, "its SHA-256 differs from the manifest's")
    for split in SPLITS:
        if corpus.manifest.splits[split].documents:
            yield from _SplitCheck(corpus, tokenizer, split, corpus.stream(split)).findings(samples)


@dataclass(frozen=True)
class _SplitCheck:
    """Checks one split of a corpus."""

    corpus: PreparedCorpus
    tokenizer: Tokenizer
    split: str
    stream: TokenStream

    def findings(self, samples: int | None) -> Iterator[Finding]:
        from pyarrow import ArrowException, parquet  # slow to import

        name, documents = index_file(self.split), self.corpus.manifest.splits[self.split].documents
        try:
            with (self.corpus.folder / name).open("rb") as file, parquet.ParquetFile(file) as index:
                rows = index.metadata.num_rows
                if rows != documents:
                    yield Finding(name, f"{rows} documents, the manifest has {documents}")
                if samples is not None and samples * _BATCH >= rows:
                    samples = None  # which takes no longer
                at = 0
                for batch in _batches(index, samples):
                    yield from self._in_batch(batch, at if samples is None else None)
                    at = int(batch["start"][-1]) + int(batch["tokens"][-1])
                if samples is None and at != self.stream.tokens:
                    yield Finding(name, f"its documents end at token {at}, the shards at {self.stream.tokens}")
        except (ArrowException, OSError) as error:
            yield Finding(name, f"the index cannot be read: {error}")

    def _in_batch(self, batch: dict[str, list[Any]], expected: int | None) -> Iterator[Finding]:
        """Findings in consecutive documents, which should start at token `expected`."""
        starts, tokens = np.array(batch["start"], np.int64), np.array(batch["tokens"], np.int64)
        ends = starts + tokens
        first, end = int(starts[0]), int(ends[-1])
        if (expected is not None and first != expected) or (starts[1:] != ends[:-1]).any() or end > self.stream.tokens:
            yield Finding(self._name(batch, 0), "documents do not follow each other in the index")
            return
        ids = self.stream.read(first, end - first)
        vocabulary, outside = self.tokenizer.vocab_size, np.flatnonzero(ids >= self.tokenizer.vocab_size)
        if len(outside):
            row = _row(ends, first + int(outside[0]))
            problem = f"{len(outside)} ids are outside the vocabulary of {vocabulary}, the first is {ids[outside[0]]}"
            yield Finding(self._name(batch, row), problem)
            return
        for token, problem in self._stray_tokens(ids, starts - first, ends - first - 1):
            yield Finding(self._name(batch, _row(ends, first + token)), problem)
        request = self.corpus.manifest.request
        for row in np.flatnonzero(tokens <= request.bos + request.eos).tolist():
            yield Finding(self._name(batch, row), "the document is empty")
        for row in np.linspace(0, len(starts) - 1, _DECODED).astype(int).tolist():
            yield from self._in_text(batch, row, ids[starts[row] - first : ends[row] - first])

    def _stray_tokens(
        self, ids: NDArray[np.int64], firsts: NDArray[np.int64], lasts: NDArray[np.int64]
    ) -> Iterator[tuple[int, str]]:
        """BOS and EOS that are missing at an end of a document or stand inside one: position in `ids`, problem."""
        manifest, request = self.corpus.manifest, self.corpus.manifest.request
        if manifest.bos_id == manifest.eos_id:
            return  # one id for both: it stands at either end
        for name, index, wanted, ends in (
            ("BOS", manifest.bos_id, request.bos, firsts),
            ("EOS", manifest.eos_id, request.eos, lasts),
        ):
            stray = np.setxor1d(np.flatnonzero(ids == index), ends if wanted else ends[:0], assume_unique=True)
            if len(stray):
                problem = f"{name} is missing at an end of a document, or stands inside one, {len(stray)} times"
                yield int(stray[0]), problem

    @cached_property
    def _exact(self) -> bool:
        """Whether texts can be compared with what their ids spell."""
        return spells_back(self.tokenizer)

    def _in_text(self, batch: dict[str, list[Any]], row: int, ids: NDArray[np.int64]) -> Iterator[Finding]:
        if not self._exact:
            return
        request = self.corpus.manifest.request
        plain = ids[int(request.bos) : len(ids) - int(request.eos)].tolist()
        text = self.tokenizer.decode(plain)
        if not can_spell(text, batch["bytes"][row]):
            problem = f"its ids spell {len(text.encode())} bytes of text, the record has {batch['bytes'][row]}"
            yield Finding(self._name(batch, row), problem)
        elif self.tokenizer.encode([text])[0] != plain:
            yield Finding(self._name(batch, row), "its text has other ids: another tokenizer, or damage")

    def _name(self, batch: dict[str, list[Any]], row: int) -> str:
        return f"{self.split}: {batch['origin'][row]}"


def _row(ends: NDArray[np.int64], token: int) -> int:
    """Index of the document that holds a token of the split."""
    return int(np.searchsorted(ends, token, side="right"))


def _batches(index: parquet.ParquetFile, samples: int | None) -> Iterator[dict[str, list[Any]]]:
    """Consecutive documents, as columns: all of them in order, or random runs."""
    if samples is None:
        for batch in index.iter_batches(batch_size=_BATCH):
            yield batch.to_pydict()
        return
    dice = np.random.default_rng(samples)
    for _ in range(samples):
        group = index.read_row_group(int(dice.integers(index.num_row_groups)))
        first = int(dice.integers(max(1, len(group) - _BATCH + 1)))
        yield group.slice(first, _BATCH).to_pydict()
