"""Every rung of a ladder has the text of the recipe's family, as it was when the ladder was begun."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.corpus.manifest import open_corpus
from tinyllama.errors import CorpusError
from tinyllama.prepare.reuse import link_corpus
from tinyllama.prepare.tokenizer import is_tokenizer, link_tokenizer
from tinyllama.tokenizer.opening import open_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.family import Family
    from tinyllama.family.prepare import Prepared


def share_text(prepared: Prepared, family: Family, rung: Family) -> None:
    """Link the tokenizer and corpora that the family was prepared with into a rung, and open them there.

    The rung does not look at the sources, which may change while the ladder is trained.

    Raises:
        CorpusError: the rung has others, or a file of the family is damaged.
    """
    layout = rung.layout
    if not is_tokenizer(layout.tokenizer):
        link_tokenizer(layout.tokenizer, family.layout.tokenizer)
    _refuse_other(rung, "tokenizer", prepared.tokenizer.sha256, open_tokenizer(layout.tokenizer).sha256)
    for name, corpus in prepared.corpora.items():
        found = _complete(layout.corpus(name)) or link_corpus(corpus, layout.corpus(name))
        _refuse_other(rung, f"text of {name}", corpus.sha256, found.sha256)
    opened = rung.prepare(look=False)
    _refuse_other(rung, "tokenizer", prepared.tokenizer.sha256, opened.tokenizer.sha256)
    for name, corpus in prepared.corpora.items():
        _refuse_other(rung, f"text of {name}", corpus.sha256, opened.corpora[name].sha256)


def _complete(folder: Path) -> PreparedCorpus | None:
    try:
        return open_corpus(folder)
    except CorpusError:
        return None


def _refuse_other(rung: Family, what: str, expected: str, found: str) -> None:
    if found != expected:
        raise CorpusError(
            f"{rung.folder}: the family now has another {what} than this rung; give another --folder for the ladder"
        )
