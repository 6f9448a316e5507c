"""Assembles the folders of finished tasks to one corpus: shards, document index, quarantine, file fingerprints.

The result depends only on the order of the tasks, never on which worker did them, or when.
"""

from __future__ import annotations

import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from tinyllama.corpus.index import index_file, index_schema
from tinyllama.corpus.manifest import SPLITS, SplitEntry
from tinyllama.corpus.shards import SHARD_TOKENS, ShardEntry, shard_name
from tinyllama.errors import CorpusError
from tinyllama.files import fsync_path, sha256_file, unique_mark
from tinyllama.prepare.task import FILES, REJECTED, task_folder
from tinyllama.record_files import read_record, write_record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np

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


def plan_shards(
    work: Path, results: Sequence[TaskResult], dtype: np.dtype[Any], shard_tokens: int = SHARD_TOKENS
) -> dict[str, list[Shard]]:
    """The shards of each split: the tokens of all tasks in order, divided every `shard_tokens`."""
    return {split: list(_shards(work, results, split, dtype.itemsize, shard_tokens)) for split in SPLITS}


def _shards(work: Path, results: Sequence[TaskResult], split: str, item: int, shard_tokens: int) -> Iterator[Shard]:
    ranges: list[ByteRange] = []
    room, number = shard_tokens, 0
    for index, result in enumerate(results):
        for shard in result.splits[split].shards:
            done = 0
            while done < shard.tokens:
                here = min(room, shard.tokens - done)
                file = task_folder(work, index) / shard.file
                ranges.append(ByteRange(file, done * item, here * item, shard.sha256))
                done, room = done + here, room - here
                if not room:
                    yield Shard(shard_name(split, number), tuple(ranges))
                    ranges, room, number = [], shard_tokens, number + 1
    if ranges:
        yield Shard(shard_name(split, number), tuple(ranges))


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

    Where a shard holds only a part of a task's file, the file is compared with its hash, and the part with the file.
    """
    with path.open("rb") as written:
        for part in shard.ranges:
            wanted = part.sha256
            if part.bytes != part.file.stat().st_size:
                with part.file.open("rb") as file:
                    file.seek(part.offset)
                    wanted = _hash(file, part.bytes)
                if sha256_file(part.file) != part.sha256:
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
    work: Path, results: Sequence[TaskResult], dtype: np.dtype[Any], folder: Path, workers: int
) -> dict[str, SplitEntry]:
    """Write the shards, the index of each split and the quarantine of all tasks into a folder.

    Args:
        work: folder of the tasks' folders; shards are written there first, so that a finished one is kept.
        results: results of the tasks.
        dtype: type of a token.
        folder: folder of the corpus.
        workers: number of threads; hashing and copying release the interpreter lock.

    Returns:
        The manifest's entry of each split.

    Raises:
        CorpusError: see `write_shard`.
    """
    shards = plan_shards(work, results, dtype)
    parts = {split: [result.splits[split] for result in results] for split in SPLITS}
    with ThreadPoolExecutor(workers) as threads:
        writing = [
            threads.submit(write_shard, work, shard, dtype.itemsize) for split in SPLITS for shard in shards[split]
        ]
        for split in SPLITS:
            _write_index(work, parts[split], split, folder / index_file(split))
        for written in writing:
            written.result()
    entries: dict[str, SplitEntry] = {}
    for split in SPLITS:
        finished = [finished_shard(work, shard) for shard in shards[split]]
        entries[split] = SplitEntry(
            documents=sum(part.documents for part in parts[split]),
            tokens=sum(part.tokens for part in parts[split]),
            bytes=sum(part.bytes for part in parts[split]),
            shards=tuple(entry for entry in finished if entry is not None),
        )
        for shard in shards[split]:
            (work / shard.file).replace(folder / shard.file)
    for name in (REJECTED, FILES):
        with (folder / name).open("ab") as out:
            for index in range(len(results)):
                with (task_folder(work, index) / name).open("rb") as file:
                    shutil.copyfileobj(file, out)
    return entries


def _write_index(work: Path, parts: Sequence[SplitEntry], split: str, target: Path) -> None:
    """Write the indices of all tasks as one, in groups of `_INDEX_ROWS` rows whatever the sizes of the tasks."""
    import pyarrow as pa
    from pyarrow import compute, parquet

    start = 0
    with parquet.ParquetWriter(target, index_schema(), compression="zstd") as writer:
        pending = index_schema().empty_table()
        for index, part in enumerate(parts):
            table = parquet.read_table(task_folder(work, index) / index_file(split), partitioning=None)
            table = table.set_column(0, "start", compute.add(table["start"], start))
            pending = pa.concat_tables([pending, table]).combine_chunks()
            start += part.tokens
            while len(pending) >= _INDEX_ROWS:
                writer.write_table(pending.slice(0, _INDEX_ROWS), row_group_size=_INDEX_ROWS)
                pending = pending.slice(_INDEX_ROWS).combine_chunks()
        if len(pending):
            writer.write_table(pending, row_group_size=_INDEX_ROWS)
