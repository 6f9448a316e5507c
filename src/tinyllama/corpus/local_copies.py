"""Copies of shards on a local disk, made in the background while rows are read from where the corpora are.

They serve corpora on network storage, which is slow at reads of a few kilobytes at random positions. The name of a
copy is the SHA-256 of its content, so that families, variants and the processes of a machine share copies, and a copy
that differs from its manifest is never used.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tinyllama.corpus.manifest import TRAIN
from tinyllama.corpus.shards import SHARD_SUFFIX
from tinyllama.errors import CorpusError
from tinyllama.files import fsync_path
from tinyllama.locks import locked_file
from tinyllama.paths import expand_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.corpus.shards import TokenStream

_log = logging.getLogger(__name__)
_CHUNK = 1 << 22
_FREE_SHARE = 0.05
"""Share of the disk that stays free."""


@contextmanager
def local_copies(folder: str | None, streams: Sequence[tuple[PreparedCorpus, TokenStream]]) -> Iterator[None]:
    """Copy the shards of training streams to a folder while the block runs; a stream switches to each finished copy.

    One warning reports a shard that cannot be copied; it and those after it are read from the original.

    Args:
        folder: on a local disk, with environment variables as `$NAME`; None copies nothing.
        streams: training streams, each with its corpus.
    """
    if folder is None:
        yield
        return
    ended = threading.Event()
    copies = expand_path(folder)
    thread = threading.Thread(target=_copy_all, args=(copies, streams, ended), name="local copies", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _copy_all(folder: Path, streams: Sequence[tuple[PreparedCorpus, TokenStream]], ended: threading.Event) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for corpus, stream in streams:
            for index, shard in enumerate(corpus.manifest.splits[TRAIN].shards):
                copy = folder / f"{shard.sha256}{SHARD_SUFFIX}"
                _copy(corpus.folder / shard.file, copy, shard.sha256, ended)
                if ended.is_set():
                    return
                stream.move(index, copy)
    except (OSError, CorpusError) as error:
        _log.warning("%s; what was not copied is read from where it is", error)


def _copy(original: Path, copy: Path, sha256: str, ended: threading.Event) -> None:
    """Make one copy unless it exists; the processes of a machine take turns.

    Raises:
        CorpusError: the disk is full, or the original differs from its manifest.
    """
    if copy.is_file():
        return
    lock = copy.with_name(f".{copy.name}.lock")
    with locked_file(lock):
        if copy.is_file():
            return
        _require_room(copy.parent, original.stat().st_size)
        partial = copy.with_name(f".{copy.name}.partial")
        digest = hashlib.sha256()
        with original.open("rb") as source, partial.open("wb") as target:
            while (chunk := source.read(_CHUNK)) and not ended.is_set():
                target.write(chunk)
                digest.update(chunk)
        if ended.is_set():
            partial.unlink()
            return
        if digest.hexdigest() != sha256:
            partial.unlink()
            raise CorpusError(f"{original}: differs from its SHA-256 in the manifest; see `tinyllama corpus verify`")
        fsync_path(partial)
        partial.replace(copy)
        with suppress(OSError):  # Windows removes no open file
            lock.unlink()


def _require_room(folder: Path, size: int) -> None:
    disk = shutil.disk_usage(folder)
    if disk.free - size < _FREE_SHARE * disk.total:
        raise CorpusError(
            f"{folder}: the disk has no room for more copies of shards ({disk.free / 1e9:.1f} GB are free)"
        )
