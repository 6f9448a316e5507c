"""What is in a corpus: sizes, lengths, languages and scripts, the largest files, and documents that occur again."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tinyllama.corpus.contents.hashes import hashed_documents
from tinyllama.corpus.contents.sampling import sample_texts
from tinyllama.quality.languages import identify, script_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.corpus.reading import PreparedText
    from tinyllama.tokenizer.base import Tokenizer

_PERCENTILES = (0, 10, 25, 50, 75, 90, 99, 100)
_PLACE = re.compile(r"[:#][0-9]+$")
"""The line or row in an origin."""
_SEED = 0


class Origin(NamedTuple):
    """A file, or a document of a builtin source, with all that the corpus holds of it."""

    name: str
    documents: int
    tokens: int
    bytes: int


class CorpusStatistics(NamedTuple):
    """What is in a corpus; documents are those of the index, so pieces of a document that was cut count apart."""

    documents: int
    tokens: int
    bytes: int
    lengths: dict[str, int]
    """Percentile → tokens of a document, its BOS and EOS included."""
    sampled: int
    """Documents by which languages and scripts were estimated."""
    languages: dict[str, float] | None
    """Language → its share of the sampled bytes, the largest first; None if py3langid is not installed."""
    scripts: dict[str, float]
    """Script of most letters → its share of the sampled bytes, the largest first; "" has no letters."""
    origins: list[Origin]
    """The origins with the most tokens."""
    different_origins: int
    repeated: int
    """Documents whose ids occurred before."""
    repeated_bytes: int

    @property
    def bytes_per_token(self) -> float:
        """Mean bytes of text for each token."""
        return self.bytes / self.tokens


def corpus_statistics(corpus: PreparedCorpus, tokenizer: Tokenizer, sample: int, top: int) -> CorpusStatistics:
    """Read a whole corpus, and decode a sample of it.

    Args:
        corpus: the corpus.
        tokenizer: the tokenizer that the corpus was prepared with.
        sample: number of documents to decode.
        top: number of origins to name.

    Raises:
        CorpusError: the corpus was prepared with another tokenizer, or its files are damaged.
    """
    lengths, origins, seen = array("q"), dict[str, Origin](), set[str]()
    repeated = repeated_bytes = 0
    for document in hashed_documents(corpus):
        lengths.append(document.tokens)
        name = _PLACE.sub("", document.origin)
        before = origins.get(name, Origin(name, 0, 0, 0))
        origins[name] = Origin(
            name, before.documents + 1, before.tokens + document.tokens, before.bytes + document.bytes
        )
        if document.digest in seen:
            repeated, repeated_bytes = repeated + 1, repeated_bytes + document.bytes
        seen.add(document.digest)
    texts = sample_texts(corpus, tokenizer, sample, _SEED)
    known = find_spec("py3langid") is not None
    splits = corpus.manifest.splits.values()
    return CorpusStatistics(
        documents=sum(split.documents for split in splits),
        tokens=sum(split.tokens for split in splits),
        bytes=sum(split.bytes for split in splits),
        lengths=_percentiles(lengths),
        sampled=len(texts),
        languages=_shares(texts, lambda text: identify(text).code) if known else None,
        scripts=_shares(texts, script_of),
        origins=sorted(origins.values(), key=lambda origin: (-origin.tokens, origin.name))[:top],
        different_origins=len(origins),
        repeated=repeated,
        repeated_bytes=repeated_bytes,
    )


def _percentiles(lengths: array[int]) -> dict[str, int]:
    found = np.percentile(np.frombuffer(lengths, np.int64), _PERCENTILES, method="lower")
    return {f"{p}%": int(length) for p, length in zip(_PERCENTILES, found, strict=True)}


def _shares(texts: Sequence[PreparedText], kind: Callable[[str], str]) -> dict[str, float]:
    """Kind of text → its share of the bytes, the largest first."""
    sizes = Counter[str]()
    for text in texts:
        sizes[kind(text.text)] += text.bytes
    return {name: size / sizes.total() for name, size in sizes.most_common()}
