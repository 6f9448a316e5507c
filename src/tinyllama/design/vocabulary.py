"""Which tokenizer suits a text: candidates, trained on a sample of it, and measured on another."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tinyllama.errors import CorpusError, SourceError
from tinyllama.sources.documents import utf8_bytes
from tinyllama.tokenizer.llama2 import VOCAB_SIZE, obtain_llama2
from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer
from tinyllama.tokenizer.training import train_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OWN, LLAMA2 = "own", "llama2"
_FEWEST = 300
"""Ids of a vocabulary, of which 259 are bytes and control tokens."""
_WORSE = 0.95
"""Llama 2's tokenizer is preferred, since tools know it, down to this part of the bytes of a token of one's own."""


@dataclass(frozen=True)
class Candidate:
    """A tokenizer, measured on text that it was not trained on."""

    kind: str
    vocab_size: int
    bytes_per_token: dict[str, float]
    """Text → UTF-8 bytes of a token."""
    overall: float
    """UTF-8 bytes of a token of all texts together, each sample as long as it is."""
    training_seconds: float
    """Of its training on the samples; 0 for one that exists."""
    bytes_per_second: float
    """UTF-8 bytes that one core encodes."""


def compare_tokenizers(
    samples: Mapping[str, Sequence[str]], vocab_size: int, kind: str | None = None
) -> list[Candidate]:
    """Candidates for a number of ids, the preferred one first.

    A tokenizer of one's own is trained on every second sample of each text, and measured on the others. Llama 2's is a
    candidate if the number of ids is its 32,000, or if it is asked for.

    Args:
        samples: text → pieces of it.
        vocab_size: number of ids of one's own; halved until the samples suffice.
        kind: `own` or `llama2` alone; None for both.

    Raises:
        CorpusError: the samples are too small for any vocabulary.
        SourceError: Llama 2's tokenizer is asked for and unavailable.
    """
    found = []
    if kind == LLAMA2 or (kind is None and vocab_size == VOCAB_SIZE):
        try:
            found.append(_measure(LLAMA2, obtain_llama2()[0], samples, 0.0))
        except SourceError:
            if kind == LLAMA2:
                raise
    if kind != LLAMA2:
        began = time.perf_counter()
        model = _train([piece for pieces in samples.values() for piece in pieces[::2]], vocab_size)
        found.append(_measure(OWN, model, samples, time.perf_counter() - began))
    return sorted(found, key=_preference, reverse=True)


def _train(texts: Sequence[str], vocab_size: int) -> bytes:
    """Train a tokenizer; where the text has too few words for its number of ids, one of half as many."""
    try:
        return train_model(texts, vocab_size)
    except CorpusError:
        if vocab_size // 2 < _FEWEST:
            raise
        return _train(texts, vocab_size // 2)


def _preference(candidate: Candidate) -> float:
    return candidate.overall / (_WORSE if candidate.kind == LLAMA2 else 1.0)


def _measure(kind: str, model: bytes, samples: Mapping[str, Sequence[str]], seconds: float) -> Candidate:
    """Bytes per token on the samples that a candidate of one's own is not trained on."""
    sizes, tokens = dict[str, int](), dict[str, int]()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "tokenizer.model"
        file.write_bytes(model)
        tokenizer = SentencePieceTokenizer(file)
        began = time.perf_counter()
        for name, pieces in samples.items():
            measured = pieces[1::2] or pieces
            sizes[name] = sum(map(utf8_bytes, measured))
            tokens[name] = sum(len(tokenizer.encode([piece])[0]) for piece in measured)
        taken = time.perf_counter() - began
        return Candidate(
            kind=kind,
            vocab_size=tokenizer.vocab_size,
            bytes_per_token={name: sizes[name] / tokens[name] for name in samples},
            overall=sum(sizes.values()) / sum(tokens.values()),
            training_seconds=seconds,
            bytes_per_second=sum(sizes.values()) / taken,
        )
