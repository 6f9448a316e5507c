"""Signatures of documents: two documents are copies if one part of their signatures, a band, is equal.

With `exact`, a signature is one band: a hash of the text. With `minhash`, it is the MinHash of a document's runs of
words (Broder 1997) by rensa, hashed band by band (Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", 3.4).
Two documents whose sets of runs have the Jaccard similarity s are copies with probability 1 - (1 - s^rows)^bands.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyllama.quality.overlap import words

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from tinyllama.recipe import Deduplication

_SEED = 1
"""Of the hash functions; another one makes signatures that cannot be compared with those on disk."""
_TEXT_BYTES, _BAND_BYTES = 16, 8
"""Sizes of hashes: two of 10^9 different texts are taken for copies with probability 10^-21, and two bands of as many
documents are equal by chance 0.03 times."""


def band_dtype(settings: Deduplication) -> np.dtype[Any]:
    """The type of a band: bytes that are compared as a whole."""
    return np.dtype((np.bytes_, _TEXT_BYTES)) if settings.method == "exact" else np.dtype("<u8")


def signature_bytes(settings: Deduplication) -> int:
    """Size of a signature."""
    return _TEXT_BYTES if settings.method == "exact" else _BAND_BYTES * settings.bands


def signature(text: str, settings: Deduplication) -> bytes:
    """The signature of a text: its bands, one after another."""
    if settings.method == "exact":
        return _hash(text.encode(), _TEXT_BYTES)
    runs = word_runs(text, settings.ngram)
    if not runs:  # no letter or digit: copies are the same text
        return _hash(text.encode(), _BAND_BYTES) * settings.bands
    from rensa import RMinHash  # an extra

    (sketch,) = RMinHash.from_token_sets([runs], num_perm=settings.bands * settings.rows, seed=_SEED)
    hashes = np.array(sketch.digest(), "<u4").reshape(settings.bands, settings.rows)
    return b"".join(_hash(band.tobytes(), _BAND_BYTES) for band in hashes)


def word_runs(text: str, length: int) -> list[str]:
    """The runs of `length` words in a text; all its words if there are fewer."""
    found = words(text)
    runs = [" ".join(found[start : start + length]) for start in range(len(found) - length + 1)]
    return runs or ([" ".join(found)] if found else [])


def bands_of(signatures: pa.ChunkedArray, settings: Deduplication) -> NDArray[Any]:
    """Signatures as an array: [documents, bands]."""
    size = signature_bytes(settings)
    parts = [
        np.frombuffer(chunk.buffers()[1], np.uint8)[chunk.offset * size :][: len(chunk) * size]
        for chunk in signatures.chunks
        if len(chunk)
    ]
    joined = np.concatenate([np.empty(0, np.uint8), *parts])
    bands = 1 if settings.method == "exact" else settings.bands
    return joined.view(band_dtype(settings)).reshape(-1, bands)


def first_copies(bands: NDArray[Any], fixed: int = 0) -> dict[int, int]:
    """Documents that are copies → the document that each is a copy of, which is none itself.

    A document is a copy if it shares a band with one before it that is no copy; of several, the first counts. So what
    is kept depends on the order alone, and no chain of copies drops a document that is like none that is kept.

    Args:
        bands: signatures, in order: [documents, bands].
        fixed: the number of documents at the beginning that are known to be no copies.
    """
    documents, groups = _shared_bands(bands)
    kept: dict[int, int] = {}
    copies: dict[int, int] = {}
    at = 0
    while at < len(documents):
        document, end = documents[at], at + 1
        while end < len(documents) and documents[end] == document:
            end += 1
        own = groups[at:end]
        first = min((kept[group] for group in own if group in kept), default=None)
        if first is None or document < fixed:
            for group in own:
                kept.setdefault(group, document)
        else:
            copies[document] = first
        at = end
    return copies


def _shared_bands(bands: NDArray[Any]) -> tuple[Sequence[int], Sequence[int]]:
    """Each band that several documents have: the document, in order, and the number of the band's value."""
    found: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    values = 0
    for column in bands.T:
        _, inverse, counts = np.unique(column, return_inverse=True, return_counts=True)
        shared = np.flatnonzero(counts[inverse] > 1)
        found.append((shared, inverse[shared] + values))
        values += len(counts)
    documents = np.concatenate([np.empty(0, np.int64), *(own for own, _ in found)])
    groups = np.concatenate([np.empty(0, np.int64), *(group for _, group in found)])
    order = np.argsort(documents, kind="stable")
    return documents[order].tolist(), groups[order].tolist()


def _hash(data: bytes, size: int) -> bytes:
    return hashlib.blake2b(data, digest_size=size).digest()
