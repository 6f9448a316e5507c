"""From the folders of finished tasks to one corpus: shards, document index, quarantine, fingerprints.

What comes out depends on the tasks' order alone, never on which worker did them, or when.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from tinyllama.corpus.index import index_file, index_schema
from tinyllama.corpus.manifest import SPLITS
from tinyllama.corpus.shards import SHARD_TOKENS, shard_name
from tinyllama.errors import CorpusError
from tinyllama.files import fsync_path, sha256_file, unique_mark, write_json
from tinyllama.prepare.task import FILES, REJECTED, task_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np

_CHUNK = 1 << 20
_INDEX_ROWS = 1 << 16


class Piece(NamedTuple):
    """A run of bytes in a task's file of tokens."""

    file: Path
    offset: int
    bytes: int
    sha256: str
    """Of the whole file."""


class Shard(NamedTuple):
    """A shard of the corpus that is put together from pieces."""

    file: str
    pieces: tuple[Piece, ...]


def plan_shards(
    work: Path, results: Sequence[dict[str, Any]], dtype: np.dtype[Any], shard_tokens: int = SHARD_TOKENS
) -> dict[str, list[Shard]]:
    """The shards of each split: the tasks' tokens one after another, cut every `shard_tokens`."""
    return {split: list(_shards(work, results, split, dtype.itemsize, shard_tokens)) for split in SPLITS}


def _shards(work: Path, results: Sequence[dict[str, Any]], split: str, item: int, shard_tokens: int) -> Iterator[Shard]:
    pieces: list[Piece] = []
    room, number = shard_tokens, 0
    for index, result in enumerate(results):
        for shard in result["splits"][split]["shards"]:
            done = 0
            while done < shard["tokens"]:
                here = min(room, shard["tokens"] - done)
                file = task_folder(work, index) / shard["file"]
                pieces.append(Piece(file, done * item, here * item, shard["sha256"]))
                done, room = done + here, room - here
                if not room:
                    yield Shard(shard_name(split, number), tuple(pieces))
                    pieces, room, number = [], shard_tokens, number + 1
    if pieces:
        yield Shard(shard_name(split, number), tuple(pieces))


def write_shard(work: Path, shard: Shard, item: int) -> None:
    """Put a shard together in the work folder, unless that is done.

    What is written is read back and compared with the hashes that the tasks took of what they wrote.

    Raises:
        CorpusError: a task's file is not what was written to it, or the disk gives back something else.
    """
    if finished_shard(work, shard) is not None:
        return
    beside = work / f".{shard.file}.{unique_mark()}"
    with beside.open("wb") as out:
        for piece in shard.pieces:
            with piece.file.open("rb") as file:
                file.seek(piece.offset)
                for count in _chunks(piece.bytes):
                    out.write(file.read(count))
    with ThreadPoolExecutor(2) as threads:
        flushed, hashed = threads.submit(fsync_path, beside), threads.submit(sha256_file, beside)
        _check_pieces(beside, shard, work)
        flushed.result()
    tokens = sum(piece.bytes for piece in shard.pieces) // item
    beside.replace(work / shard.file)
    write_json(_facts(work, shard), {"file": shard.file, "tokens": tokens, "sha256": hashed.result()})


def _check_pieces(path: Path, shard: Shard, work: Path) -> None:
    """Compare each part of a written shard with the hash of what its task wrote.

    Of a task's file that goes on in another shard, the file is compared with its hash, and the part with the file.
    """
    with path.open("rb") as written:
        for piece in shard.pieces:
            wanted = piece.sha256
            if piece.bytes != piece.file.stat().st_size:
                with piece.file.open("rb") as file:
                    file.seek(piece.offset)
                    wanted = _hash(file, piece.bytes)
                if sha256_file(piece.file) != piece.sha256:
                    wanted = ""
            if _hash(written, piece.bytes) != wanted:
                raise CorpusError(
                    f"{piece.file} or its copy in {path}: is not what was written to it; delete {work} and prepare "
                    "again, on another disk if that does not help"
                )


def _hash(file: BinaryIO, size: int) -> str:
    """Hex SHA-256 of the next `size` bytes."""
    digest = hashlib.sha256()
    for count in _chunks(size):
        digest.update(file.read(count))
    return digest.hexdigest()


def _chunks(size: int) -> Iterator[int]:
    """How many bytes to read at a time."""
    return (min(_CHUNK, size - start) for start in range(0, size, _CHUNK))


def finished_shard(work: Path, shard: Shard) -> dict[str, Any] | None:
    """File, tokens and SHA-256 of a shard, or None if it is not done."""
    if not (work / shard.file).is_file() or not _facts(work, shard).is_file():
        return None
    facts: dict[str, Any] = json.loads(_facts(work, shard).read_text(encoding="utf-8"))
    return facts


def _facts(work: Path, shard: Shard) -> Path:
    return work / f"{shard.file}.json"


def assemble(
    work: Path, results: Sequence[dict[str, Any]], dtype: np.dtype[Any], folder: Path, workers: int
) -> dict[str, dict[str, Any]]:
    """Write shards, the index of each split and what the tasks kept aside into a folder.

    Args:
        work: where the tasks' folders are; shards are made there first, so that a finished one is kept.
        results: of the tasks.
        dtype: of a token.
        folder: being made.
        workers: threads; hashing and copying leave others free to run.

    Returns:
        the manifest's entry of each split.

    Raises:
        CorpusError: see `write_shard`.
    """
    shards = plan_shards(work, results, dtype)
    parts = {split: [result["splits"][split] for result in results] for split in SPLITS}
    with ThreadPoolExecutor(workers) as threads:
        writing = [
            threads.submit(write_shard, work, shard, dtype.itemsize) for split in SPLITS for shard in shards[split]
        ]
        for split in SPLITS:
            _write_index(work, parts[split], split, folder / index_file(split))
        for written in writing:
            written.result()
    entries: dict[str, dict[str, Any]] = {}
    for split in SPLITS:
        entries[split] = {key: sum(part[key] for part in parts[split]) for key in ("documents", "tokens", "bytes")}
        entries[split]["shards"] = [finished_shard(work, shard) for shard in shards[split]]
        for shard in shards[split]:
            (work / shard.file).replace(folder / shard.file)
    for name in (REJECTED, FILES):
        with (folder / name).open("ab") as out:
            for index in range(len(results)):
                with (task_folder(work, index) / name).open("rb") as file:
                    shutil.copyfileobj(file, out)
    return entries


def _write_index(work: Path, parts: Sequence[dict[str, Any]], split: str, target: Path) -> None:
    """The tasks' indices as one, in groups of `_INDEX_ROWS` rows whatever the tasks' sizes."""
    import pyarrow as pa
    from pyarrow import compute, parquet

    start = 0
    with parquet.ParquetWriter(target, index_schema(), compression="zstd") as writer:
        pending = index_schema().empty_table()
        for index, part in enumerate(parts):
            table = parquet.read_table(task_folder(work, index) / index_file(split), partitioning=None)
            table = table.set_column(0, "start", compute.add(table["start"], start))
            pending = pa.concat_tables([pending, table]).combine_chunks()
            start += part["tokens"]
            while len(pending) >= _INDEX_ROWS:
                writer.write_table(pending.slice(0, _INDEX_ROWS), row_group_size=_INDEX_ROWS)
                pending = pending.slice(_INDEX_ROWS).combine_chunks()
        if len(pending):
            writer.write_table(pending, row_group_size=_INDEX_ROWS)
