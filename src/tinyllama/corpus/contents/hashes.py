"""Every document of a corpus with a hash of what it holds, by which documents are compared."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tinyllama.corpus.documents import DocumentIndex
from tinyllama.corpus.manifest import SPLITS
from tinyllama.corpus.reading import Decoder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.tokenizer.base import Tokenizer

_BYTES = 16
_COLUMNS = ("start", "tokens", "bytes", "origin", "part")
_DOCUMENTS = 4096
"""Documents that are read at a time."""


class HashedDocument(NamedTuple):
    """A document of a corpus, or a piece of one."""

    split: str
    origin: str
    part: int
    tokens: int
    bytes: int
    """UTF-8 bytes of the text."""
    digest: str
    """Hash of its ids, or of its text."""


def hashed_documents(corpus: PreparedCorpus, tokenizer: Tokenizer | None = None) -> Iterator[HashedDocument]:
    """The documents of all splits, in order.

    Args:
        corpus: the corpus.
        tokenizer: hash the text that this tokenizer decodes, not the ids.

    Raises:
        CorpusError: files of the corpus are damaged, or another tokenizer made it.
    """
    for split in SPLITS:
        stream = corpus.stream(split)
        decoder = Decoder(corpus, tokenizer, split) if tokenizer is not None else None
        for batch in DocumentIndex(corpus, split).batches(_COLUMNS, _DOCUMENTS):
            rows = batch.to_pylist()
            first, end = rows[0]["start"], rows[-1]["start"] + rows[-1]["tokens"]
            ids = stream.read(first, end - first).astype(np.uint32) if decoder is None else None
            for row in rows:
                start, tokens, size, origin, part = (row[name] for name in _COLUMNS)
                if decoder is not None:
                    content = decoder.text(start, tokens, origin).encode()
                elif ids is not None:
                    content = ids[start - first : start - first + tokens].tobytes()
                yield HashedDocument(
                    split, origin, part, tokens, size, hashlib.blake2b(content, digest_size=_BYTES).hexdigest()
                )
