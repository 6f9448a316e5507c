"""Look-ups in the index of a corpus's documents that read only the parts of its file that can hold the answer."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tinyllama.corpus.index import index_file, unreadable_index

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray
    from pyarrow import parquet

    from tinyllama.corpus.manifest import PreparedCorpus

_COLUMNS = ["start", "tokens", "origin", "part", "bytes"]


class IndexedDocument(NamedTuple):
    """An entry of the index."""

    number: int
    """Index among the documents of the split."""
    start: int
    """First token in the split."""
    tokens: int
    origin: str
    part: int
    bytes: int
    """UTF-8 bytes of the text."""


class DocumentIndex:
    """The documents of a split, ordered by their first tokens, in row groups whose limits the file's footer states."""

    def __init__(self, corpus: PreparedCorpus, split: str) -> None:
        """Bind a split of a corpus; reads nothing yet."""
        self.corpus, self.split = corpus, split
        self._group = lru_cache(4)(self._read)

    def overlapping(self, start: int, end: int) -> list[IndexedDocument]:
        """The documents that have tokens in [`start`, `end`), in order.

        Raises:
            CorpusError: the index cannot be read.
        """
        firsts = [group.start for group in self._groups]
        found = []
        for number in range(max(0, int(np.searchsorted(firsts, start, side="right")) - 1), len(firsts)):
            if firsts[number] >= end:
                break
            table = self._group(number)
            starts = table["start"].to_numpy()
            inside = (starts < end) & (starts + table["tokens"].to_numpy() > start)
            rows = np.flatnonzero(inside)
            found += self._documents(number, table.take(rows), rows.tolist())
        return found

    def of_origin(self, origin: str) -> list[IndexedDocument]:
        """The documents, or pieces of one, whose origin is exactly this.

        Raises:
            CorpusError: the index cannot be read.
        """
        from pyarrow import compute

        found = []
        for number, group in enumerate(self._groups):
            if group.origins is None or group.origins[0] <= origin <= group.origins[1]:
                table = self._group(number)
                # Conversions to and from Python's values, as of what to compare with, import pandas, which takes longer
                # than the search.
                rows = compute.indices_nonzero(compute.match_substring(table["origin"], origin))
                named = self._documents(number, table.take(rows), rows.to_pylist())
                found += [document for document in named if document.origin == origin]
        return found

    def numbered(self, numbers: Sequence[int]) -> list[IndexedDocument]:
        """The documents with these indices, which ascend.

        Raises:
            CorpusError: the index cannot be read.
        """
        found: list[IndexedDocument] = []
        firsts = [group.first for group in self._groups]
        groups = np.searchsorted(firsts, numbers, side="right") - 1
        for group in np.unique(groups).tolist():
            rows = np.unique(np.array(numbers)[groups == group]) - firsts[group]
            found += self._documents(group, self._group(group).take(rows), rows.tolist())
        return found

    def batches(self, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Some columns of the index, in parts of at most `rows` rows.

        Raises:
            CorpusError: the index cannot be read.
        """
        with self._open() as file:
            yield from file.iter_batches(rows, columns=list(columns))

    def sizes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First token, and bytes of the text, of every document of the split.

        Raises:
            CorpusError: the index cannot be read.
        """
        with self._open() as file:
            table = file.read(columns=["start", "bytes"])
        return table["start"].to_numpy(), table["bytes"].to_numpy()

    def _documents(self, number: int, taken: pa.Table, rows: list[int]) -> list[IndexedDocument]:
        """What was taken from some rows of a row group."""
        first = self._groups[number].first
        entries = zip(rows, taken.to_pylist(), strict=True)
        return [IndexedDocument(first + row, *entry.values()) for row, entry in entries]

    @cached_property
    def _groups(self) -> list[_Group]:
        with self._open() as file:
            metadata, columns = file.metadata, file.schema_arrow.names
            groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
            firsts = accumulate((group.num_rows for group in groups), initial=0)
            start, origin = columns.index("start"), columns.index("origin")
            found = []
            for group, first in zip(groups, firsts, strict=False):
                origins = group.column(origin).statistics
                known = origins is not None and origins.has_min_max
                limits = (origins.min, origins.max) if known else None
                found.append(_Group(first, group.column(start).statistics.min, limits))
            return found

    def _read(self, number: int) -> pa.Table:
        with self._open() as file:
            return file.read_row_group(number, columns=_COLUMNS).select(_COLUMNS)

    @contextmanager
    def _open(self) -> Iterator[parquet.ParquetFile]:
        from pyarrow import ArrowException, parquet  # slow to import

        path = self.corpus.folder / index_file(self.split)
        try:
            with path.open("rb") as opened, parquet.ParquetFile(opened) as file:
                yield file
        except (ArrowException, OSError) as error:
            raise unreadable_index(path, error) from error


class _Group(NamedTuple):
    """A row group of the index."""

    first: int
    """Index of its first document."""
    start: int
    """First token of that document."""
    origins: tuple[str, str] | None
    """Smallest and largest origin, as texts; None if they are not known."""
