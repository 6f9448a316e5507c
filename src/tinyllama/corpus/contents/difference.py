"""What changed between two preparations of a corpus, document by document.

A document of the first is compared with the second by what it holds, then by where it came from: a document whose
content is in both is `kept` or, at another place or in another split, `moved`; of the others, one whose origin and part
are in both is `changed`; the rest are `removed` or `added`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from tinyllama.corpus.contents.hashes import hashed_documents

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from pydantic import JsonValue

    from tinyllama.corpus.contents.hashes import HashedDocument
    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.tokenizer.base import Tokenizer


class Tally(NamedTuple):
    """Documents of one kind."""

    documents: int
    tokens: int
    bytes: int
    named: list[str]
    """Origins of the first of them."""


class CorpusDifference(NamedTuple):
    """What changed from one corpus to another; counts of what is in both are the second's."""

    keys: dict[str, tuple[JsonValue, JsonValue]]
    """Key of the request that differs → its two values; None where a corpus has no such key."""
    kept: Tally
    moved: Tally
    changed: Tally
    removed: Tally
    added: Tally

    @property
    def tallies(self) -> dict[str, Tally]:
        """The kinds of documents, by name."""
        return {
            "kept": self.kept,
            "moved": self.moved,
            "changed": self.changed,
            "removed": self.removed,
            "added": self.added,
        }

    @property
    def is_empty(self) -> bool:
        """Whether both hold the same documents, each at the same place."""
        return not any(tally.documents for kind, tally in self.tallies.items() if kind != "kept")


def corpus_difference(
    first: PreparedCorpus, second: PreparedCorpus, tokenizers: tuple[Tokenizer, Tokenizer] | None, limit: int
) -> CorpusDifference:
    """Compare two corpora; takes about 500 bytes of memory for each document.

    Args:
        first: the corpus before.
        second: the corpus after.
        tokenizers: their tokenizers, to compare texts; None compares ids, for corpora of one tokenizer.
        limit: number of origins to name of each kind.

    Raises:
        CorpusError: files of a corpus are damaged.
    """
    before, after = tokenizers or (None, None)
    old, new = list(hashed_documents(first, before)), list(hashed_documents(second, after))
    kept, old, new = _matched(old, new, lambda document: (document.digest, document.split, *_place(document)))
    moved, old, new = _matched(old, new, lambda document: document.digest)
    changed, removed, added = _matched(old, new, _place)
    tallies = (_tally(documents, limit) for documents in (kept, moved, changed, removed, added))
    return CorpusDifference(_keys(first, second), *tallies)


def _place(document: HashedDocument) -> tuple[str, int]:
    return document.origin, document.part


def _matched(
    old: list[HashedDocument], new: list[HashedDocument], key: Callable[[HashedDocument], Hashable]
) -> tuple[list[HashedDocument], list[HashedDocument], list[HashedDocument]]:
    """The new documents that have a partner of the same key, each its own, and what is left of both."""
    there = Counter(map(key, old))
    matched, rest = [], []
    for document in new:
        if there[key(document)]:
            there[key(document)] -= 1
            matched.append(document)
        else:
            rest.append(document)
    partners = Counter(map(key, matched))
    left = []
    for document in old:
        if partners[key(document)]:
            partners[key(document)] -= 1
        else:
            left.append(document)
    return matched, left, rest


def _tally(documents: Sequence[HashedDocument], limit: int) -> Tally:
    return Tally(
        documents=len(documents),
        tokens=sum(document.tokens for document in documents),
        bytes=sum(document.bytes for document in documents),
        named=list(dict.fromkeys(document.origin for document in documents))[:limit],
    )


def _keys(first: PreparedCorpus, second: PreparedCorpus) -> dict[str, tuple[JsonValue, JsonValue]]:
    before, after = (corpus.manifest.request.model_dump(mode="json") for corpus in (first, second))
    names = [*before, *(name for name in after if name not in before)]
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}
