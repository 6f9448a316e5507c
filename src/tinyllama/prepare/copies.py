"""Copies of documents: signed by the tasks, found when all tasks are finished, and not put into shards.

A task signs each document that it reads, before `cut`. Once all tasks are finished, one process finds the copies among
the documents of this corpus and of those before it, in the order of corpora and documents. So the result depends
neither on the number of processes nor on what they did when.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tinyllama.corpus.signatures import SIGNATURES, read_signatures, signature_schema
from tinyllama.files import new_directory
from tinyllama.quality.signatures import bands_of, first_copies, signature, signature_bytes
from tinyllama.sources.rejected import Rejected, excerpt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa
    from numpy.typing import NDArray

    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.recipe import Deduplication
    from tinyllama.sources.documents import Document

_FOLDER = "copies"
_REASON = {"exact": "the same text as", "minhash": "nearly the text of"}


class Signer:
    """Signs the documents that pass through it."""

    def __init__(self, settings: Deduplication) -> None:
        self._settings = settings
        self._rows: list[tuple[str, str, bytes]] = []

    def __call__(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Pass documents on, numbered from 0, each once it is signed."""
        for number, document in enumerate(documents):
            signed = signature(document.text, self._settings)
            self._rows.append((document.origin, excerpt(document.text), signed))
            yield replace(document, number=number)

    def write(self, folder: Path) -> None:
        """Write what passed into the folder of a task."""
        import pyarrow as pa
        from pyarrow import parquet

        origins, excerpts, signatures = zip(*self._rows, strict=True) if self._rows else ((), (), ())
        schema = signature_schema(signature_bytes(self._settings))
        table = pa.table({"origin": origins, "signature": signatures}, schema)
        table = table.append_column("excerpt", pa.array(excerpts, pa.string()))
        parquet.write_table(table, folder / SIGNATURES, compression="zstd")


def find_copies(
    work: Path, name: str, tasks: Sequence[Path], settings: Deduplication, before: Sequence[PreparedCorpus]
) -> None:
    """Find the copies among the documents of all tasks, and write them into the work folder, unless this was done.

    Takes about 40 bytes of memory for each band of each document.

    Args:
        work: the work folder.
        name: the corpus's name.
        tasks: folders of the tasks, which are finished.
        settings: how copies are found.
        before: corpora whose documents come first.

    Raises:
        CorpusError: signatures cannot be read.
    """
    import pyarrow as pa
    from pyarrow import parquet

    if (work / _FOLDER).is_dir():
        return
    there = [read_signatures(corpus.folder) for corpus in before]
    own = [read_signatures(task) for task in tasks]
    corpora = [*(corpus.name for corpus in before), *(name for _ in own)]
    every = pa.concat_tables([table.select(["origin", "signature"]) for table in [*there, *own]])
    starts = np.cumsum([0, *map(len, there), *map(len, own)])
    fixed = int(starts[len(there)])
    found = first_copies(bands_of(every["signature"], settings), fixed)
    copies, firsts = (np.array(part, np.int64) for part in (list(found), list(found.values())))
    of_corpus = [corpora[at] for at in np.searchsorted(starts, firsts, side="right") - 1]
    columns = {"document": copies, "corpus": pa.array(of_corpus, pa.string()), "origin": every["origin"].take(firsts)}
    table = pa.table(columns)
    with new_directory(work / _FOLDER, keep=True) as beside:
        for index, start in enumerate(starts[len(there) : -1].tolist()):
            low, high = np.searchsorted(copies, [start, start + len(own[index])])
            part = table.slice(low, high - low)
            part = part.set_column(0, "document", pa.array(copies[low:high] - start))
            parquet.write_table(part, beside / _file(tasks[index]), compression="zstd")


def is_kept(task: Path, documents: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of a task's documents, by their numbers, are no copies."""
    return ~np.isin(documents, _copies(task)["document"].to_numpy())


def reject_copies(task: Path, method: str) -> Iterator[Rejected]:
    """The entries in the quarantine for a task's copies."""
    copies, own = _copies(task), read_signatures(task)
    for document, corpus, origin in zip(*(column.to_pylist() for column in copies.columns), strict=True):
        reason = f"dropped by deduplicate: {_REASON[method]} a document of {corpus}"
        where, begins = own["origin"][document].as_py(), own["excerpt"][document].as_py()
        yield Rejected(where, reason, begins, "duplicate", f"{corpus}: {origin}")


def write_signatures(tasks: Sequence[Path], settings: Deduplication, folder: Path) -> None:
    """Write the signatures of the documents that are no copies into the folder of a corpus."""
    from pyarrow import parquet

    schema = signature_schema(signature_bytes(settings))
    with parquet.ParquetWriter(folder / SIGNATURES, schema, compression="zstd") as writer:
        for task in tasks:
            table = read_signatures(task).select(schema.names)
            kept = is_kept(task, np.arange(len(table)))
            writer.write_table(table.filter(kept))


def _copies(task: Path) -> pa.Table:
    """The copies in a task: number of the document, and corpus and origin of the first copy."""
    from pyarrow import parquet

    return parquet.read_table(task.parent / _FOLDER / _file(task), partitioning=None)


def _file(task: Path) -> str:
    return f"{task.name}.parquet"
