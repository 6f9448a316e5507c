"""A digest of the rows of a step: what was fed, whatever the order, the micro-batches and the number of ranks."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

_BYTES = 8
_LIMB = 32
"""Bits of a summand: its sum over two million ranks is exact in fp64."""


def row_digest(corpus: str, row: int, inputs: NDArray[np.int64], targets: NDArray[np.int64]) -> int:
    """64 bits of the SHA-256 of a row: its name `corpus:row`, then inputs and targets as little-endian int32."""
    digest = hashlib.sha256(f"{corpus}:{row}\n".encode())
    for part in (inputs, targets):
        digest.update(part.astype("<i4").data)
    return int.from_bytes(digest.digest()[:_BYTES], "big")


def limbs(digest: int) -> tuple[float, float]:
    """The halves of a sum of digests, low half first, to be added up over ranks as fp64."""
    return float(digest & ((1 << _LIMB) - 1)), float(digest >> _LIMB & ((1 << _LIMB) - 1))


def from_limbs(parts: Sequence[float]) -> str:
    """The sum of digests modulo 2^64, as hex, of added-up halves. A sum, so that a row that is repeated counts."""
    low, high = map(int, parts)
    return f"{(low + (high << _LIMB)) % (1 << 8 * _BYTES):016x}"
