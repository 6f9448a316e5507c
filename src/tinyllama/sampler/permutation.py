"""Keyed permutations of 0 … n-1 that are computed, not stored.

A Feistel network permutes the next larger even power of two; results outside the range walk on through the
network until they fall inside (cycle-walking, Black & Rogaway 2002), which keeps it a bijection.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_ROUNDS = 8
_STEPS = (
    (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)),
    (np.uint64(27), np.uint64(0x94D049BB133111EB)),
)
_LAST_SHIFT = np.uint64(31)


class Permutation:
    """The permutation of `range(size)` that belongs to `key`."""

    def __init__(self, size: int, key: str) -> None:
        self._keys = _round_keys(key)
        self._size = np.uint64(size)
        self._half = _half(size)

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Images of positions in [0, size), any shape of one dimension."""
        values = _feistel(positions.astype(np.uint64), self._keys, self._half)
        outside = np.flatnonzero(values >= self._size)
        while len(outside):
            images = _feistel(values[outside], self._keys, self._half)
            values[outside] = images
            outside = outside[images >= self._size]
        return values.astype(np.int64)


def permute_each(size: int, keys: Sequence[str]) -> NDArray[np.int64]:
    """The whole `Permutation(size, key)` of each key: [keys, size]."""
    rounds, half, limit = np.stack([_round_keys(key) for key in keys], axis=1), _half(size), np.uint64(size)
    values = np.tile(np.arange(size, dtype=np.uint64), (len(keys), 1))
    values = _feistel(values, rounds[:, :, None], half).ravel()
    outside = np.flatnonzero(values >= limit)
    while len(outside):
        images = _feistel(values[outside], rounds[:, outside // size], half)
        values[outside] = images
        outside = outside[images >= limit]
    return values.astype(np.int64).reshape(len(keys), size)


def _round_keys(key: str) -> NDArray[np.uint64]:
    return np.frombuffer(hashlib.sha512(key.encode()).digest(), dtype="<u8").astype(np.uint64)[:_ROUNDS]


def _half(size: int) -> np.uint64:
    """Bits of each half of the network."""
    return np.uint64(max(1, -(-max(size - 1, 1).bit_length() // 2)))


def _feistel(values: NDArray[np.uint64], keys: NDArray[np.uint64], half: np.uint64) -> NDArray[np.uint64]:
    """All rounds; `keys` has one entry per round, each a number or an array that broadcasts with `values`."""
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    mixed, shifted = np.empty_like(values), np.empty_like(values)
    for key in keys:
        np.add(right, key, out=mixed)
        _mix(mixed, shifted)
        mixed &= mask
        left ^= mixed
        left, right = right, left
    left <<= half
    left |= right
    return left


def _mix(values: NDArray[np.uint64], room: NDArray[np.uint64]) -> None:
    """The finaliser of splitmix64 (Steele, Lea & Flood 2014), in place; wraps around on purpose."""
    for shift, factor in _STEPS:
        values ^= np.right_shift(values, shift, out=room)
        values *= factor
    values ^= np.right_shift(values, _LAST_SHIFT, out=room)
