"""The text of a prepared corpus, document by document, out of its shards."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from tinyllama.corpus.index import index_file, unreadable_index
from tinyllama.corpus.manifest import SPLITS
from tinyllama.errors import CorpusError
from tinyllama.tokenizer.spelling import spells_back

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.tokenizer.base import Tokenizer


_AGAIN = "delete the folder and prepare the corpus again"


class PreparedText(NamedTuple):
    """A document as it was tokenized."""

    origin: str
    """Where its source document is: see `Document.origin`."""
    part: int
    """Index of this piece in its source document."""
    text: str
    """As the tokenizer spells it: it may normalize text."""
    bytes: int
    """UTF-8 bytes of the text that was tokenized."""
    split: str
    """`train` or `held_out`."""
    start: int
    """Its first token in the split."""


class Decoder:
    """Decodes documents of a split."""

    def __init__(self, corpus: PreparedCorpus, tokenizer: Tokenizer, split: str) -> None:
        """Bind a split of a corpus, and its tokenizer.

        Raises:
            CorpusError: the corpus was prepared with another tokenizer.
        """
        made_with = corpus.manifest.request.tokenizer
        if tokenizer.sha256 != made_with:
            raise CorpusError(
                f"{corpus.folder}: was prepared with the tokenizer {made_with[:12]}…, not {tokenizer.sha256[:12]}…; "
                "name the corpus inside the folder of its family"
            )
        self._corpus, self._tokenizer, self._stream = corpus, tokenizer, corpus.stream(split)
        self._special = {corpus.manifest.bos_id, corpus.manifest.eos_id}

    def text(self, start: int, tokens: int, origin: str) -> str:
        """The text of the document that begins at token `start`; `origin` is what messages call it.

        Raises:
            CorpusError: its ids are damaged, or cannot be read.
        """
        ids = self._stream.read(start, tokens)
        if ids.max(initial=0) >= self._tokenizer.vocab_size:
            raise CorpusError(f"{self._corpus.folder}: {origin} has ids beyond the vocabulary; {_AGAIN}")
        return self._tokenizer.decode([i for i in ids.tolist() if i not in self._special])


def read_texts(corpus: PreparedCorpus, tokenizer: Tokenizer, split: str, origin: str = "") -> Iterator[PreparedText]:
    """The documents of a split, in the order of the shards.

    Args:
        corpus: the corpus.
        tokenizer: the tokenizer that the corpus was prepared with.
        split: `train` or `held_out`.
        origin: read only documents whose origin contains this.

    Raises:
        CorpusError: the corpus was prepared with another tokenizer, its files are damaged, or a document's text does
            not have the bytes on record.
    """
    from pyarrow import ArrowException, compute, parquet

    decoder, exact = Decoder(corpus, tokenizer, split), spells_back(tokenizer)
    path = corpus.folder / index_file(split)
    try:
        with path.open("rb") as file, parquet.ParquetFile(file) as index:
            for batch in index.iter_batches(columns=["start", "tokens", "bytes", "origin", "part"]):
                for row in batch.filter(compute.match_substring(batch["origin"], origin)).to_pylist():
                    text = decoder.text(row["start"], row["tokens"], row["origin"])
                    if exact and not can_spell(text, row["bytes"]):
                        raise CorpusError(
                            f"{corpus.folder}: {row['origin']} decodes to {len(text.encode())} bytes, not the "
                            f"{row['bytes']} on record; {_AGAIN}"
                        )
                    yield PreparedText(row["origin"], row["part"], text, row["bytes"], split, row["start"])
    except (ArrowException, OSError) as error:
        raise unreadable_index(path, error) from error


def find_texts(corpus: PreparedCorpus, tokenizer: Tokenizer, origin: str, limit: int) -> list[PreparedText]:
    """The first `limit` documents of all splits whose origin contains `origin`.

    Raises:
        CorpusError: see `read_texts`.
    """
    found = chain.from_iterable(read_texts(corpus, tokenizer, split, origin) for split in SPLITS)
    return list(islice(found, limit))


def can_spell(text: str, size: int) -> bool:
    """Whether a text of `size` bytes can decode to `text`: SentencePiece decodes U+2581 (3 bytes) to a space."""
    more = size - len(text.encode())
    return more % 2 == 0 and 0 <= more <= 2 * text.count(" ")
