"""Checks before a preparation that the disk has room for the corpus."""

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
"""Tokens that a byte of text gives at least."""
_COPIES = 2
"""Copies of the tokens on the disk while tasks become shards."""


def check_space(corpus: Corpus, name: str, tasks: Sequence[ReadTask], folder: Path) -> None:
    """Refuse a corpus that the disk certainly has no room for.

    Args:
        corpus: the recipe's corpus.
        name: its name, for messages.
        tasks: its tasks.
        folder: folder of the corpus; the path need not exist.

    Raises:
        CorpusError: the corpus does not fit. With a `where`, whose selection is not known, a warning is logged instead.
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
