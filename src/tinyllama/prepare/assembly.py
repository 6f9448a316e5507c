"""Assembles the folders of finished tasks to one corpus: shards, document index, quarantine, file fingerprints.

The result depends only on the order of the tasks, never on which worker did them, or when.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from tinyllama.corpus.index import INDEX_COLUMNS, index_file, index_schema
from tinyllama.corpus.manifest import SPLITS, TRAIN, SplitEntry
from tinyllama.corpus.shards import SHARD_TOKENS, ShardEntry, shard_name
from tinyllama.errors import CorpusError
from tinyllama.files import fsync_path, sha256_file, unique_mark
from tinyllama.prepare.copies import is_kept
from tinyllama.prepare.task import DOCUMENT, FILES, REJECTED, task_folder
from tinyllama.record_files import read_record, write_record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from tinyllama.prepare.task import TaskResult

_CHUNK = 1 << 20
_INDEX_ROWS = 1 << 16


class ByteRange(NamedTuple):
    """A range of bytes in a task's file of tokens."""

    file: Path
    offset: int
    bytes: int
    sha256: str
    """SHA-256 of the whole file."""


class Shard(NamedTuple):
    """A shard of the corpus, made of ranges."""

    file: str
    ranges: tuple[ByteRange, ...]


class Part(NamedTuple):
    """What a task gives a split of the corpus."""

    task: Path
    """The task's folder."""
    written: SplitEntry
    """What the task wrote."""
    kept: SplitEntry
    """The same without copies; its shards mean nothing."""
    runs: Sequence[tuple[int, int]]
    """The tokens that are kept: [first, end) of each run."""


def kept_parts(work: Path, results: Sequence[TaskResult], *, deduplicated: bool = False) -> dict[str, list[Part]]:
    """What each task gives each split: all that it wrote, or what is left of it without copies of documents."""
    return {
        split: [
            _without_copies(task_folder(work, index), result.splits[split], split)
            if deduplicated
            else _whole(task_folder(work, index), result.splits[split])
            for index, result in enumerate(results)
        ]
        for split in SPLITS
    }


def _whole(task: Path, written: SplitEntry) -> Part:
    return Part(task, written, written, [(0, written.tokens)])


def _without_copies(task: Path, written: SplitEntry, split: str) -> Part:
    from pyarrow import parquet

    columns = parquet.read_table(task / index_file(split), columns=["tokens", "bytes", DOCUMENT], partitioning=None)
    tokens, sizes, documents = (column.to_numpy() for column in columns.columns)
    kept = is_kept(task, documents)
    if kept.all():
        return _whole(task, written)
    entry = SplitEntry(
        documents=int(kept.sum()), tokens=int(tokens[kept].sum()), bytes=int(sizes[kept].sum()), shards=()
    )
    ends = np.cumsum(tokens)
    changes = np.flatnonzero(np.diff(kept, prepend=False, append=False))
    runs = [(int(ends[first] - tokens[first]), int(ends[end - 1])) for first, end in changes.reshape(-1, 2).tolist()]
    return Part(task, written, entry, runs)


def plan_shards(
    parts: Mapping[str, Sequence[Part]], dtype: np.dtype[Any], shard_tokens: int = SHARD_TOKENS
) -> dict[str, list[Shard]]:
    """The shards of each split: the kept tokens of all tasks in order, divided every `shard_tokens`."""
    return {split: list(_shards(parts[split], split, dtype.itemsize, shard_tokens)) for split in SPLITS}


def _shards(parts: Sequence[Part], split: str, item: int, shard_tokens: int) -> Iterator[Shard]:
    ranges: list[ByteRange] = []
    room, number = shard_tokens, 0
    for file, sha256, start, end in chain.from_iterable(map(_pieces, parts)):
        done = start
        while done < end:
            here = min(room, end - done)
            ranges.append(ByteRange(file, done * item, here * item, sha256))
            done, room = done + here, room - here
            if not room:
                yield Shard(shard_name(split, number), tuple(ranges))
                ranges, room, number = [], shard_tokens, number + 1
    if ranges:
        yield Shard(shard_name(split, number), tuple(ranges))


def _pieces(part: Part) -> Iterator[tuple[Path, str, int, int]]:
    """The kept runs of a part in each of the task's files: file, SHA-256 of the file, first token in it, end."""
    first, runs = 0, deque(part.runs)
    for shard in part.written.shards:
        while runs and runs[0][0] < first + shard.tokens:
            start, end = runs.popleft()
            here = min(end, first + shard.tokens)
            yield part.task / shard.file, shard.sha256, start - first, here - first
            if here < end:
                runs.appendleft((here, end))
                break
        first += shard.tokens


def write_shard(work: Path, shard: Shard, item: int) -> None:
    """Write a shard into the work folder, unless it is finished.

    The shard is read back and compared with the hashes that the tasks computed of what they wrote.

    Raises:
        CorpusError: the file of a task differs from what the task wrote, or the disk returns other bytes.
    """
    if finished_shard(work, shard) is not None:
        return
    beside = work / f".{shard.file}.{unique_mark()}"
    with beside.open("wb") as out:
        for part in shard.ranges:
            with part.file.open("rb") as file:
                file.seek(part.offset)
                for count in _chunks(part.bytes):
                    out.write(file.read(count))
    with ThreadPoolExecutor(2) as threads:
        flushed, hashed = threads.submit(fsync_path, beside), threads.submit(sha256_file, beside)
        _check_ranges(beside, shard, work)
        flushed.result()
    tokens = sum(part.bytes for part in shard.ranges) // item
    beside.replace(work / shard.file)
    write_record(_entry_file(work, shard), ShardEntry(file=shard.file, tokens=tokens, sha256=hashed.result()))


def _check_ranges(path: Path, shard: Shard, work: Path) -> None:
    """Compare each part of a written shard with the hash of what its task wrote.

    Where a shard holds only parts of a task's file, the file is compared with its hash, and the parts with the file.
    """
    file_hash = cache(sha256_file)
    with path.open("rb") as written:
        for part in shard.ranges:
            wanted = part.sha256
            if part.bytes != part.file.stat().st_size:
                with part.file.open("rb") as file:
                    file.seek(part.offset)
                    wanted = _hash(file, part.bytes)
                if file_hash(part.file) != part.sha256:
                    wanted = ""
            if _hash(written, part.bytes) != wanted:
                raise CorpusError(
                    f"{part.file} or its copy in {path}: is not what was written to it; delete {work} and prepare "
                    "again, on another disk if that does not help"
                )


def _hash(file: BinaryIO, size: int) -> str:
    """Hex SHA-256 of the next `size` bytes."""
    digest = hashlib.sha256()
    for count in _chunks(size):
        digest.update(file.read(count))
    return digest.hexdigest()


def _chunks(size: int) -> Iterator[int]:
    """Sizes of the reads that make up `size` bytes."""
    return (min(_CHUNK, size - start) for start in range(0, size, _CHUNK))


def finished_shard(work: Path, shard: Shard) -> ShardEntry | None:
    """The manifest's entry of a shard in the work folder, or None if it is not done.

    Raises:
        CorpusError: the entry cannot be used; the message names the file and the key.
    """
    entry = _entry_file(work, shard)
    if not (work / shard.file).is_file() or not entry.is_file():
        return None
    return read_record(ShardEntry, entry, CorpusError, f"delete {work} and prepare the corpus again")


def _entry_file(work: Path, shard: Shard) -> Path:
    return work / f"{shard.file}.json"


def assemble(
    work: Path, parts: Mapping[str, Sequence[Part]], dtype: np.dtype[Any], folder: Path, workers: int
) -> dict[str, SplitEntry]:
    """Write the shards, the index of each split and the quarantine of all tasks into a folder.

    Args:
        work: folder of the tasks' folders; shards are written there first, so that a finished one is kept.
        parts: what each task gives each split.
        dtype: type of a token.
        folder: folder of the corpus.
        workers: number of threads; hashing and copying release the interpreter lock.

    Returns:
        The manifest's entry of each split.

    Raises:
        CorpusError: see `write_shard`.
    """
    shards = plan_shards(parts, dtype)
    with ThreadPoolExecutor(workers) as threads:
        writing = [
            threads.submit(write_shard, work, shard, dtype.itemsize) for split in SPLITS for shard in shards[split]
        ]
        for split in SPLITS:
            _write_index(parts[split], split, folder / index_file(split))
        for written in writing:
            written.result()
    entries: dict[str, SplitEntry] = {}
    for split in SPLITS:
        finished = [finished_shard(work, shard) for shard in shards[split]]
        entries[split] = SplitEntry(
            documents=sum(part.kept.documents for part in parts[split]),
            tokens=sum(part.kept.tokens for part in parts[split]),
            bytes=sum(part.kept.bytes for part in parts[split]),
            shards=tuple(entry for entry in finished if entry is not None),
        )
        for shard in shards[split]:
            (work / shard.file).replace(folder / shard.file)
    for name in (REJECTED, FILES):
        with (folder / name).open("ab") as out:
            for part in parts[TRAIN]:
                with (part.task / name).open("rb") as file:
                    shutil.copyfileobj(file, out)
    return entries


def _write_index(parts: Sequence[Part], split: str, target: Path) -> None:
    """Write the indices of all tasks as one, in groups of `_INDEX_ROWS` rows whatever the sizes of the tasks."""
    import pyarrow as pa
    from pyarrow import parquet

    start = 0
    with parquet.ParquetWriter(target, index_schema(), compression="zstd") as writer:
        pending = index_schema().empty_table()
        for part in parts:
            pending = pa.concat_tables([pending, _kept_rows(part, split, start)]).combine_chunks()
            start += part.kept.tokens
            while len(pending) >= _INDEX_ROWS:
                writer.write_table(pending.slice(0, _INDEX_ROWS), row_group_size=_INDEX_ROWS)
                pending = pending.slice(_INDEX_ROWS).combine_chunks()
        if len(pending):
            writer.write_table(pending, row_group_size=_INDEX_ROWS)


def _kept_rows(part: Part, split: str, start: int) -> pa.Table:
    """The index of a part, whose first kept token is token `start` of the split."""
    import pyarrow as pa
    from pyarrow import parquet

    table = parquet.read_table(part.task / index_file(split), partitioning=None)
    if part.kept is not part.written:
        table = table.filter(is_kept(part.task, table[DOCUMENT].to_numpy()))
    tokens = table["tokens"].to_numpy()
    return table.select(INDEX_COLUMNS).set_column(0, "start", pa.array(start + np.cumsum(tokens) - tokens))
