"""Random documents of a corpus, by seed."""

from __future__ import annotations

import random
from bisect import bisect_left
from typing import TYPE_CHECKING

from tinyllama.corpus.documents import DocumentIndex
from tinyllama.corpus.manifest import SPLITS
from tinyllama.corpus.reading import Decoder, PreparedText

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.tokenizer.base import Tokenizer


def sample_texts(
    corpus: PreparedCorpus, tokenizer: Tokenizer, count: int, seed: int, splits: Sequence[str] = SPLITS
) -> list[PreparedText]:
    """Different documents, each with the same probability, in the order of the corpus; all if there are no more.

    Args:
        corpus: the corpus.
        tokenizer: the tokenizer that the corpus was prepared with.
        count: number of documents.
        seed: the same seed chooses the same documents.
        splits: the splits to choose from.

    Raises:
        CorpusError: the corpus was prepared with another tokenizer, or its files are damaged.
    """
    sizes = [corpus.manifest.splits[split].documents for split in splits]
    dice = random.Random(seed)  # noqa: S311  # chooses documents to show, no secrets
    chosen = sorted(dice.sample(range(sum(sizes)), min(count, sum(sizes))))
    texts: list[PreparedText] = []
    first = 0
    for split, size in zip(splits, sizes, strict=True):
        decoder = Decoder(corpus, tokenizer, split)
        own = chosen[bisect_left(chosen, first) : bisect_left(chosen, first + size)]
        for document in DocumentIndex(corpus, split).numbered([number - first for number in own]):
            text = decoder.text(document.start, document.tokens, document.origin)
            texts.append(PreparedText(document.origin, document.part, text, document.bytes, split, document.start))
        first += size
    return texts
