"""Token streams on disk: little-endian shards, read piece by piece."""

from __future__ import annotations

import hashlib
import os
import weakref
from bisect import bisect_right
from collections import OrderedDict
from itertools import accumulate
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from tinyllama.errors import CorpusError
from tinyllama.record_files import FileRecord

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SHARD_TOKENS = 1 << 29
"""Tokens in a full shard (1 GiB of uint16)."""
SHARD_SUFFIX = ".bin"

_MOST_OPEN = 128
"""Files that a stream keeps open at most; many systems allow a process 1,024."""


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The smallest type that holds every id: uint16 up to 65,536 tokens, else uint32."""
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


def shard_name(split: str, number: int) -> str:
    """The file of a split's shard: `<split>-00000.bin`, `<split>-00001.bin` and so on."""
    return f"{split}-{number:05d}{SHARD_SUFFIX}"


class ShardEntry(FileRecord):
    """A shard: its file, which holds nothing but token ids."""

    file: str
    tokens: int
    sha256: str


class ShardWriter:
    """Appends token ids to a split's shards and hashes what it writes."""

    def __init__(self, folder: Path, split: str, dtype: np.dtype[Any], shard_tokens: int = SHARD_TOKENS) -> None:
        self._folder, self._split, self._dtype, self._limit = folder, split, dtype, shard_tokens
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self._tokens = 0
        """Tokens in the open shard."""
        self.shards: list[ShardEntry] = []
        """Shards that are finished."""
        self.tokens = 0
        """Tokens in all shards together."""

    def append(self, ids: Sequence[int] | NDArray[np.uint32]) -> None:
        """Append ids; a document may continue in the next shard."""
        values = np.asarray(ids, dtype=self._dtype)
        while len(values):
            file = self._file or self._open()
            room = self._limit - self._tokens
            part, values = values[:room], values[room:]
            self._write(file, part)
            if self._tokens == self._limit:
                self.close()

    def _open(self) -> BinaryIO:
        self._file = (self._folder / self._name).open("wb")
        self._digest, self._tokens = hashlib.sha256(), 0
        return self._file

    def _write(self, file: BinaryIO, part: NDArray[Any]) -> None:
        data = np.ascontiguousarray(part).data
        file.write(data)
        self._digest.update(data)
        self._tokens += len(part)
        self.tokens += len(part)

    @property
    def _name(self) -> str:
        return shard_name(self._split, len(self.shards))

    def close(self) -> None:
        """Finish the open shard, if any."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self.shards.append(ShardEntry(file=self._name, tokens=self._tokens, sha256=self._digest.hexdigest()))


class TokenStream:
    """One long sequence of token ids over several shards.

    Reads are explicit: memory use does not grow with the corpus, and a failing disk raises an error, where a memory
    map would kill the process.
    """

    def __init__(self, files: Sequence[Path], lengths: Sequence[int], dtype: np.dtype[Any]) -> None:
        self._files, self._dtype = list(files), dtype
        self._ends = list(accumulate(lengths))
        self.tokens = self._ends[-1] if self._ends else 0
        self._open: OrderedDict[int, int] = OrderedDict()
        """Shard → file descriptor, the most recently used last."""
        self._moved: dict[int, Path] = {}
        weakref.finalize(self, _close_all, self._open)

    def read(self, start: int, count: int) -> NDArray[np.int64]:
        """The ids from `start` to `start + count`, across shards: [count].

        Raises:
            CorpusError: a shard cannot be read, or is shorter than the manifest says.
        """
        parts = []
        shard = bisect_right(self._ends, start)
        while count:
            first = self._ends[shard - 1] if shard else 0
            part = self._read_shard(shard, start - first, min(count, self._ends[shard] - start))
            parts.append(part)
            start, count, shard = start + len(part), count - len(part), shard + 1
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int64), *parts])

    def move(self, shard: int, file: Path) -> None:
        """Read a shard from another file of the same content from now on; safe while another thread reads."""
        self._moved[shard] = file

    def _read_shard(self, shard: int, offset: int, count: int) -> NDArray[np.int64]:
        item = self._dtype.itemsize
        try:
            data = _read_at(self._descriptor(shard), count * item, offset * item)
            while 0 < len(data) < count * item:  # one system call returns at most 2 GiB
                more = _read_at(self._descriptor(shard), count * item - len(data), offset * item + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise CorpusError(f"{self._files[shard]}: cannot be read ({error.strerror}); check the disk") from error
        if len(data) != count * item:
            raise CorpusError(f"{self._files[shard]}: is shorter than its manifest says; prepare the corpus again")
        return np.frombuffer(data, self._dtype).astype(np.int64)

    def _descriptor(self, shard: int) -> int:
        if shard in self._moved:
            self._files[shard] = self._moved.pop(shard)
            if shard in self._open:
                os.close(self._open.pop(shard))
        if shard in self._open:
            self._open.move_to_end(shard)
        else:
            if len(self._open) >= _MOST_OPEN:
                os.close(self._open.popitem(last=False)[1])
            self._open[shard] = os.open(self._files[shard], os.O_RDONLY | getattr(os, "O_BINARY", 0))
        return self._open[shard]


def _close_all(descriptors: OrderedDict[int, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)


def _read_at(descriptor: int, count: int, offset: int) -> bytes:
    """At most `count` bytes from an offset; on Windows, only one thread may read a descriptor."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, count, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, count)
