"""Estimates the disk space that a preparation needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tinyllama.recipe import Corpus
    from tinyllama.sources.documents import ReadTask

_TOKENS_PER_BYTE = 1 / 5
"""Tokens that a byte of text gives at least."""
_COPIES = 2
"""Copies of the tokens on the disk while tasks become shards."""


def bytes_needed(corpus: Corpus, tasks: Iterable[ReadTask]) -> int:
    """Bytes that a corpus takes on the disk at least while it is prepared, if no key selects its documents.

    Args:
        corpus: the recipe's corpus.
        tasks: its tasks.
    """
    return int(sum(_needed(corpus, task) for task in tasks))


def _needed(corpus: Corpus, task: ReadTask) -> float:
    text = task.text_bytes
    if (limit := corpus.sources[task.source].limit) is not None:
        text = min(text, limit)
    return text * _TOKENS_PER_BYTE * 2 * _COPIES
