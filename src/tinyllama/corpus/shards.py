"""Token streams on disk: little-endian shards, read through memory maps."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SHARD_TOKENS = 1 << 29
"""Tokens in a full shard (1 GiB of uint16)."""


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The smallest type that holds every id: uint16 up to 65,536 tokens, else uint32."""
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


def shard_name(split: str, number: int) -> str:
    """The file of a split's shard: `<split>-00000.bin`, `<split>-00001.bin` and so on."""
    return f"{split}-{number:05d}.bin"


class ShardWriter:
    """Appends token ids to a split's shards and hashes them on the way."""

    def __init__(self, folder: Path, split: str, dtype: np.dtype[Any], shard_tokens: int = SHARD_TOKENS) -> None:
        self._folder, self._split, self._dtype, self._limit = folder, split, dtype, shard_tokens
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self.shards: list[dict[str, Any]] = []
        """One entry per shard: file, tokens, sha256."""
        self.tokens = 0

    def append(self, ids: Sequence[int] | NDArray[np.uint32]) -> None:
        """Append ids; a document may continue in the next shard."""
        values = np.asarray(ids, dtype=self._dtype)
        while len(values):
            if self._file is None:
                self._open()
            room = self._limit - self.shards[-1]["tokens"]
            part, values = values[:room], values[room:]
            self._write(part)
            if self.shards[-1]["tokens"] == self._limit:
                self.close()

    def _open(self) -> None:
        name = shard_name(self._split, len(self.shards))
        self._file = (self._folder / name).open("wb")
        self._digest = hashlib.sha256()
        self.shards.append({"file": name, "tokens": 0, "sha256": ""})

    def _write(self, part: NDArray[Any]) -> None:
        data = part.tobytes()
        assert self._file is not None  # noqa: S101  # opened by `append`
        self._file.write(data)
        self._digest.update(data)
        self.shards[-1]["tokens"] += len(part)
        self.tokens += len(part)

    def close(self) -> None:
        """Finish the open shard, if any."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self.shards[-1]["sha256"] = self._digest.hexdigest()


class TokenStream:
    """One long run of token ids over several shards."""

    def __init__(self, files: Sequence[Path], lengths: Sequence[int], dtype: np.dtype[Any]) -> None:
        self._maps = [
            np.memmap(file, dtype=dtype, mode="r", shape=(n,)) for file, n in zip(files, lengths, strict=True)
        ]
        self._ends = np.cumsum(np.array(lengths, np.int64))
        self.tokens = int(self._ends[-1]) if len(lengths) else 0

    def read(self, start: int, count: int) -> NDArray[np.int64]:
        """Ids `start` to `start + count`, across shard borders: [count]."""
        parts = []
        shard = int(np.searchsorted(self._ends, start, side="right"))
        while count:
            offset = start - (int(self._ends[shard - 1]) if shard else 0)
            part = self._maps[shard][offset : offset + count]
            parts.append(part)
            start, count, shard = start + len(part), count - len(part), shard + 1
        return np.concatenate(parts).astype(np.int64) if parts else np.empty(0, np.int64)
