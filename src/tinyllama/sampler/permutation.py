"""Keyed permutations of 0 … n-1 that are computed instead of stored.

A Feistel network permutes the next larger even power of two. Results outside the range pass through the network
again until they fall inside (cycle-walking, Black & Rogaway 2002), so the map is a bijection.

The input of a round's function is half of a value, so a table of all its results has about sqrt(n) entries. Results
come from such tables while these fit a core's cache, and are computed otherwise.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    RoundFunction = Callable[[int, NDArray[np.int64]], NDArray[np.uint16 | np.int64]]
    """(round number, half of each value) → summand for the other half."""
    _Network = Callable[[NDArray[np.int64]], NDArray[np.int64]]

_ROUNDS = 8
_FORWARD, _BACKWARD = range(_ROUNDS), range(_ROUNDS - 1, -1, -1)
"""Orders of the rounds."""
_TABLE_BITS = 16
"""Maximum number of bits in a half for which a table is used."""
_STEPS = (
    (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)),
    (np.uint64(27), np.uint64(0x94D049BB133111EB)),
)
_LAST_SHIFT = np.uint64(31)


class Permutation:
    """The permutation of `range(size)` for `key`."""

    def __init__(self, size: int, key: str) -> None:
        self._size, self._half = size, _half(size)
        self._round = _round_function(key, self._half)

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Images of a one-dimensional array of positions in [0, size)."""
        return self._walk(positions, lambda values: _feistel(values, self._round, self._half))

    def inverse(self, images: NDArray[np.int64]) -> NDArray[np.int64]:
        """The positions that have these images: the network with its rounds in reverse, on exchanged halves."""

        def backward(values: NDArray[np.int64]) -> NDArray[np.int64]:
            exchanged = _exchange(values, self._half)
            return _exchange(_feistel(exchanged, self._round, self._half, order=_BACKWARD), self._half)

        return self._walk(images, backward)

    def _walk(self, values: NDArray[np.int64], network: _Network) -> NDArray[np.int64]:
        """Pass values through a network until all are in [0, size)."""
        values = network(values)
        outside = np.flatnonzero(values >= self._size)
        while len(outside):
            images = network(values.take(outside))
            values[outside] = images
            outside = outside.take(np.flatnonzero(images >= self._size))
        return values


def permute_each(size: int, keys: Sequence[str]) -> NDArray[np.int64]:
    """The whole `Permutation(size, key)` of each key: [keys, size]."""
    half = _half(size)
    round_function = _looked_up(_tables(np.stack([_round_keys(key) for key in keys], axis=1), half))
    values = np.tile(np.arange(size), len(keys))
    key_of = np.repeat(np.arange(len(keys)) << half, size)
    values = _feistel(values, round_function, half, key_of)
    outside = np.flatnonzero(values >= size)
    while len(outside):
        images = _feistel(values.take(outside), round_function, half, key_of.take(outside))
        values[outside] = images
        outside = outside.take(np.flatnonzero(images >= size))
    return values.reshape(len(keys), size)


def _round_keys(key: str) -> NDArray[np.uint64]:
    return np.frombuffer(hashlib.sha512(key.encode()).digest(), dtype="<u8").astype(np.uint64)[:_ROUNDS]


def _half(size: int) -> int:
    """Bits in each half of a value."""
    return max(1, -(-max(size - 1, 1).bit_length() // 2))


def _exchange(values: NDArray[np.int64], half: int) -> NDArray[np.int64]:
    """The values with their halves exchanged."""
    return (values & ((1 << half) - 1)) << half | values >> half


def _feistel(
    values: NDArray[np.int64],
    mixed: RoundFunction,
    half: int,
    table: NDArray[np.int64] | int = 0,
    order: range = _FORWARD,
) -> NDArray[np.int64]:
    """Apply all rounds. `table` is the start of each value's table; both halves carry it above their bits."""
    mask = (1 << half) - 1
    left, right = values >> half, values & mask
    left |= table
    right |= table
    for number in order:
        left ^= mixed(number, right)
        left, right = right, left
    left &= mask
    right &= mask
    left <<= half
    left |= right
    return left


def _round_function(key: str, half: int) -> RoundFunction:
    return _looked_up(_tables_of(key, half)) if half <= _TABLE_BITS else _computed(key, half)


def _looked_up(tables: NDArray[np.uint16]) -> RoundFunction:
    def mixed(number: int, right: NDArray[np.int64]) -> NDArray[np.uint16]:
        return np.take(tables[number], right)

    return mixed


def _computed(key: str, half: int) -> RoundFunction:
    keys, mask = _round_keys(key), np.uint64((1 << half) - 1)

    def mixed(number: int, right: NDArray[np.int64]) -> NDArray[np.int64]:
        return (_mix(right.astype(np.uint64) + keys[number]) & mask).astype(np.int64)

    return mixed


@lru_cache(maxsize=16)  # tables in use: one epoch per corpus of a step
def _tables_of(key: str, half: int) -> NDArray[np.uint16]:
    return _tables(_round_keys(key)[:, None], half)


def _tables(keys: NDArray[np.uint64], half: int) -> NDArray[np.uint16]:
    """Each round's results, concatenated over keys: [rounds, keys · 2^half], for keys [rounds, keys]."""
    values = _mix(np.arange(1 << half, dtype=np.uint64) + keys[:, :, None])
    return (values & np.uint64((1 << half) - 1)).astype(np.uint16).reshape(_ROUNDS, -1)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of splitmix64 (Steele, Lea & Flood 2014), in place; integer overflow is intended."""
    room = np.empty_like(values)
    for shift, factor in _STEPS:
        values ^= np.right_shift(values, shift, out=room)
        values *= factor
    values ^= np.right_shift(values, _LAST_SHIFT, out=room)
    return values
