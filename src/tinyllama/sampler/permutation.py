"""A keyed permutation of 0 … n-1 that is computed, not stored.

A Feistel network permutes the next larger even power of two; results outside the range walk on through the
network until they fall inside (cycle-walking, Black & Rogaway 2002), which keeps it a bijection.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROUNDS = 8


class Permutation:
    """The permutation of `range(size)` that belongs to `key`."""

    def __init__(self, size: int, key: str) -> None:
        digest = hashlib.sha512(key.encode()).digest()
        self._keys = np.frombuffer(digest, dtype="<u8").astype(np.uint64)[:_ROUNDS]
        self._size = np.uint64(size)
        self._half = np.uint64(max(1, -(-max(size - 1, 1).bit_length() // 2)))
        self._mask = (np.uint64(1) << self._half) - np.uint64(1)

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Images of positions in [0, size), any shape of one dimension."""
        values = self._feistel(positions.astype(np.uint64))
        outside = np.flatnonzero(values >= self._size)
        while len(outside):
            values[outside] = self._feistel(values[outside])
            outside = outside[values[outside] >= self._size]
        return values.astype(np.int64)

    def _feistel(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = values >> self._half, values & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mix(right + key) & self._mask)
        return (left << self._half) | right


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea & Flood 2014); wraps around on purpose."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
