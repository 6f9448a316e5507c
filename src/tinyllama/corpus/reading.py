"""The text of a prepared corpus, document by document, out of its shards."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tinyllama.corpus.shards import TokenStream
from tinyllama.errors import CorpusError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.corpus.tokenizer import Tokenizer


class PreparedText(NamedTuple):
    """A document as it was tokenized."""

    origin: str
    """Where it stood: see `Document.origin`."""
    part: int
    """Index of this piece in its source document."""
    text: str


def read_texts(corpus: PreparedCorpus, tokenizer: Tokenizer, split: str) -> Iterator[PreparedText]:
    """Every document of a split, in the order of the shards.

    Args:
        corpus: complete.
        tokenizer: the one that the corpus was tokenized with.
        split: `train` or `held_out`.

    Raises:
        CorpusError: the tokenizer is another one, or a document's text does not have the bytes on record.
    """
    from pyarrow import parquet  # noqa: PLC0415  # slow to import

    made_with = corpus.manifest["request"]["tokenizer"]
    if tokenizer.sha256 != made_with:
        raise CorpusError(
            f"{corpus.folder}: was tokenized with the tokenizer {made_with[:12]}…, not {tokenizer.sha256[:12]}…; "
            "give the family that it belongs to"
        )
    shards = corpus.manifest["splits"][split]["shards"]
    files = [corpus.folder / shard["file"] for shard in shards]
    stream = TokenStream(files, [shard["tokens"] for shard in shards], np.dtype(corpus.manifest["dtype"]))
    special = {corpus.manifest["bos_id"], corpus.manifest["eos_id"]}
    with parquet.ParquetFile(corpus.folder / f"{split}.documents.parquet") as index:
        for batch in index.iter_batches(columns=["start", "tokens", "bytes", "origin", "part"]):
            for row in batch.to_pylist():
                ids = stream.read(row["start"], row["tokens"]).tolist()
                text = tokenizer.decode([i for i in ids if i not in special])
                if len(text.encode()) != row["bytes"]:
                    raise CorpusError(
                        f"{corpus.folder}: {row['origin']} decodes to {len(text.encode())} bytes, not the "
                        f"{row['bytes']} on record; prepare the corpus again"
                    )
                yield PreparedText(row["origin"], row["part"], text)
