"""Whether a disk has room for a corpus, asked before hours are spent on it."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING

from tinyllama.errors import CorpusError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tinyllama.recipe import Corpus
    from tinyllama.sources.documents import ReadTask

_log = logging.getLogger(__name__)

_TOKENS_PER_BYTE = 1 / 5
"""Of text, at least."""
_COPIES = 2
"""Tokens are on the disk twice while tasks become shards."""


def check_space(corpus: Corpus, name: str, tasks: Sequence[ReadTask], folder: Path) -> None:
    """Refuse a corpus that the disk surely has no room for.

    Args:
        corpus: the recipe's corpus.
        name: its name, for messages.
        tasks: its tasks.
        folder: where it goes; nothing of this path needs to be there.

    Raises:
        CorpusError: it does not fit. Where `where` leaves documents out, nobody knows how many: it is only warned of.
    """
    needed = int(sum(_needed(corpus, task) for task in tasks))
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed <= free:
        return
    text = (
        f"corpus {name}: at least {needed / 1e9:,.0f} GB are needed in {folder} while it is prepared, and "
        f"{free / 1e9:,.0f} GB are free; make room, or put the family on another disk (--run)"
    )
    if any(source.where for source in corpus.sources):
        _log.warning("%s", text)
    else:
        raise CorpusError(text)


def _needed(corpus: Corpus, task: ReadTask) -> float:
    text = task.text_bytes
    if (limit := corpus.sources[task.source].limit) is not None:
        text = min(text, limit)
    return text * _TOKENS_PER_BYTE * 2 * _COPIES
