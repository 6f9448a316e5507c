"""What can be wrong with a prepared corpus: found by reading it, whole or in samples."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tinyllama.corpus.index import index_file
from tinyllama.corpus.manifest import SPLITS
from tinyllama.corpus.reading import can_spell
from tinyllama.files import sha256_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.corpus.shards import TokenStream
    from tinyllama.tokenizer.base import Tokenizer

_BATCH = 4096
"""Documents looked at together."""
_DECODED = 4
"""Documents of each batch whose text is compared with the record."""
_SMALL = 1 << 24
"""Bytes of a file that is hashed even where only samples are wanted."""


class Finding(NamedTuple):
    """Something wrong."""

    place: str
    """File, or split and document."""
    problem: str


def find_damage(corpus: PreparedCorpus, tokenizer: Tokenizer, samples: int | None = None) -> Iterator[Finding]:
    """Whatever is wrong with a corpus.

    Truncation is refused by `open_corpus` already. Found here: bit rot (SHA-256 of every file), a foreign tokenizer
    (its hash, and the text that some documents decode to and encode back from), ids outside the vocabulary, special
    tokens anywhere but at the ends of documents (so runs of them and padding too), empty documents, and an index that
    does not cover the tokens.

    Args:
        corpus: opened.
        tokenizer: the family's.
        samples: look at so many parts of 4,096 documents in each split, and hash small files only; None: at all.
    """
    if tokenizer.sha256 != corpus.manifest["request"]["tokenizer"]:
        yield Finding("manifest.json", "the corpus was tokenized with another tokenizer than the family's")
    for name, facts in corpus.manifest["files"].items():
        wanted = samples is None or facts["bytes"] <= _SMALL
        if wanted and sha256_file(corpus.folder / name) != facts["sha256"]:
            yield Finding(name, "its SHA-256 differs from the manifest's")
    for split in SPLITS:
        if corpus.manifest["splits"][split]["documents"]:
            yield from _find_in_split(corpus, tokenizer, split, samples)


def _find_in_split(corpus: PreparedCorpus, tokenizer: Tokenizer, split: str, samples: int | None) -> Iterator[Finding]:
    from pyarrow import ArrowException, parquet

    facts, stream = corpus.manifest["splits"][split], corpus.stream(split)
    try:
        with parquet.ParquetFile(corpus.folder / index_file(split)) as index:
            rows = index.metadata.num_rows
            if rows != facts["documents"]:
                yield Finding(index_file(split), f"{rows} documents, the manifest has {facts['documents']}")
            at = 0
            for batch in _batches(index, samples):
                expected = at if samples is None else None
                yield from _find_in_batch(corpus, tokenizer, split, batch, stream, expected)
                at = int(batch["start"][-1]) + int(batch["tokens"][-1])
            if samples is None and at != stream.tokens:
                yield Finding(index_file(split), f"its documents end at token {at}, the shards at {stream.tokens}")
    except (ArrowException, OSError) as error:
        yield Finding(index_file(split), f"cannot be read: {error}")


def _batches(index: Any, samples: int | None) -> Iterator[dict[str, list[Any]]]:  # noqa: ANN401  # a Parquet file
    if samples is None:
        for batch in index.iter_batches(batch_size=_BATCH):
            yield batch.to_pydict()
        return
    dice = random.Random(samples)  # noqa: S311  # a sample
    for _ in range(samples):
        group = index.read_row_group(dice.randrange(index.num_row_groups))
        first = dice.randrange(max(1, len(group) - _BATCH + 1))
        yield group.slice(first, _BATCH).to_pydict()


def _find_in_batch(  # noqa: PLR0913, PLR0917  # a batch and all that it is compared with
    corpus: PreparedCorpus,
    tokenizer: Tokenizer,
    split: str,
    batch: dict[str, list[Any]],
    stream: TokenStream,
    expected: int | None,
) -> Iterator[Finding]:
    """Findings in consecutive documents, which should start at token `expected`."""
    starts, tokens = np.array(batch["start"], np.int64), np.array(batch["tokens"], np.int64)
    ends = starts + tokens
    first, end = int(starts[0]), int(ends[-1])
    if (expected is not None and first != expected) or (starts[1:] != ends[:-1]).any() or end > stream.tokens:
        yield Finding(f"{split}: {batch['origin'][0]}", "documents do not follow each other in the index")
        return
    ids = stream.read(first, end - first)

    def place(token: int) -> str:
        return f"{split}: {batch['origin'][int(np.searchsorted(ends, first + token, side='right'))]}"

    outside = np.flatnonzero(ids >= tokenizer.vocab_size)
    if len(outside):
        problem = (
            f"{len(outside)} ids are outside the vocabulary of {tokenizer.vocab_size}, the first is {ids[outside[0]]}"
        )
        yield Finding(place(int(outside[0])), problem)
        return
    request = corpus.manifest["request"]
    for name, wanted, ends_of in (
        ("BOS", request["bos"], starts - first),
        ("EOS", request["eos"], ends - first - 1),
    ):
        index = corpus.manifest[f"{name.lower()}_id"]
        if corpus.manifest["bos_id"] == corpus.manifest["eos_id"]:
            continue  # one id for both: it stands at either end
        stray = _difference(np.flatnonzero(ids == index), ends_of if wanted else ends_of[:0])
        if len(stray):
            problem = f"{name} is missing at an end of a document, or stands inside one, {len(stray)} times"
            yield Finding(place(int(stray[0])), problem)
    overhead = request["bos"] + request["eos"]
    for row in np.flatnonzero(tokens <= overhead).tolist():
        yield Finding(f"{split}: {batch['origin'][row]}", "the document is empty")
    for row in np.linspace(0, len(starts) - 1, _DECODED).astype(int).tolist():
        yield from _find_in_text(tokenizer, split, batch, row, ids[starts[row] - first : ends[row] - first], request)


def _difference(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sorted positions that only one of two has."""
    return np.setxor1d(one, other, assume_unique=True)


def _find_in_text(  # noqa: PLR0913, PLR0917  # a document and what it is compared with
    tokenizer: Tokenizer,
    split: str,
    batch: dict[str, list[Any]],
    row: int,
    ids: NDArray[np.int64],
    request: dict[str, Any],
) -> Iterator[Finding]:
    plain = ids[int(request["bos"]) : len(ids) - int(request["eos"])].tolist()
    text = tokenizer.decode(plain)
    if not can_spell(text, batch["bytes"][row]):
        problem = f"its ids spell {len(text.encode())} bytes of text, the record has {batch['bytes'][row]}"
        yield Finding(f"{split}: {batch['origin'][row]}", problem)
    elif tokenizer.encode([text])[0] != plain:
        yield Finding(f"{split}: {batch['origin'][row]}", "its text has other ids: another tokenizer, or damage")
