"""Prepare a family's tokenizer and every corpus whose source is available."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tinyllama.errors import SourceError
from tinyllama.files import one_at_a_time
from tinyllama.prepare.prepare import prepare_corpus
from tinyllama.prepare.tokenizer import obtain_tokenizer

if TYPE_CHECKING:
    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.family.workspace import Workspace
    from tinyllama.prepare.prepare import PrepareOptions
    from tinyllama.recipe import Recipe
    from tinyllama.sources.rejected import Rejected
    from tinyllama.tokenizer.base import Tokenizer

_WAITING = "corpus {}: another process prepares it; waiting for it"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A family's tokenizer and corpora on disk."""

    tokenizer: Tokenizer
    corpora: dict[str, PreparedCorpus]
    """Prepared corpora by name, in the recipe's order."""
    missing: dict[str, str]
    """Corpus whose source is unavailable → reason."""

    def lacking(self, recipe: Recipe, model: str) -> list[str]:
        """Unavailable corpora that a model needs."""
        needed = set(recipe.base) | set(recipe.variants.get(model, {}))
        return sorted(needed & set(self.missing))

    def require(self, recipe: Recipe, model: str) -> None:
        """Check that every corpus that a model needs is prepared.

        Raises:
            SourceError: a corpus's source is unavailable.
        """
        if lacking := self.lacking(recipe, model):
            raise SourceError(f"{model} needs {', '.join(lacking)}: {self.missing[lacking[0]]}")

    def require_all(self) -> None:
        """Check that every corpus is prepared.

        Raises:
            SourceError: sources are unavailable; the message names all of them.
        """
        if self.missing:
            raise SourceError("; ".join(f"{name}: {reason}" for name, reason in self.missing.items()))


def prepare(work: Workspace, options: PrepareOptions) -> Prepared:
    """Obtain the tokenizer and prepare every corpus, unless this was done before.

    Raises:
        CorpusError: the text, the tokenizer or the disk does not meet the requirements.
        SourceError: the tokenizer is unavailable. A corpus whose source is unavailable is listed in `missing`.
        WorkerLostError: a worker process was killed.
    """
    tokenizer = prepare_tokenizer(work)
    corpora, missing = dict[str, "PreparedCorpus"](), dict[str, str]()
    for name in work.recipe.corpora:
        folder = work.layout.corpus(name)
        with work.progress.counting(f"corpus {name}") as count:
            alone = one_at_a_time(folder.with_name(f".{name}.lock"), partial(work.progress.say, _WAITING.format(name)))
            try:
                with alone:
                    corpora[name] = prepare_corpus(work.recipe, name, tokenizer, folder, work.root, count, options)
            except SourceError as error:
                missing[name] = str(error)
                _log.warning("corpus %s: %s", name, error)
    return Prepared(tokenizer, corpora, missing)


def prepare_tokenizer(work: Workspace) -> Tokenizer:
    """The family's tokenizer; obtains or trains it if needed."""
    work.claim()
    work.progress.say("tokenizer")
    imported = work.layout.imported_tokenizer
    if work.recipe.tokenizer.imported and not imported.is_dir():
        from tinyllama.family.import_model import open_start  # imports torch

        open_start(work.recipe).write_tokenizer(imported)
    return obtain_tokenizer(work.recipe, work.layout.tokenizer, work.root, _ignore)


def _ignore(_rejected: Rejected) -> None:
    """Ignore rejected documents during tokenizer training; they are counted when their corpus is prepared."""
