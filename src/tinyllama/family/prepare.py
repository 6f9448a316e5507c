"""Prepare a family's tokenizer and every corpus whose source is available."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from tinyllama.errors import SourceError, UserError
from tinyllama.family.corpora import Trained, prepare_versions
from tinyllama.layout import FamilyLayout
from tinyllama.locks import one_at_a_time
from tinyllama.prepare.reuse import reuse_tokenizer
from tinyllama.prepare.tokenizer import obtain_tokenizer
from tinyllama.recipe.text import corpora_before
from tinyllama.sources.builtin.registry import replacement_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

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
    """Prepared corpora by name, in the recipe's order; of several preparations, the newest that a model was trained
    on, or else the newest."""
    missing: dict[str, str]
    """Corpus whose source is unavailable → reason."""
    versions: dict[str, list[PreparedCorpus]] = field(default_factory=dict)
    """All preparations of the corpora that have several, oldest first."""

    def corpora_for(self, trained: Mapping[str, str]) -> dict[str, PreparedCorpus]:
        """The corpora to train a model on: those that its checkpoints name, otherwise the newest.

        Args:
            trained: corpus → identity that the model's checkpoints name.
        """
        chosen = {
            name: next((one for one in versions if one.sha256 == trained.get(name)), versions[-1])
            for name, versions in self.versions.items()
        }
        return self.corpora | chosen

    def lacking(self, recipe: Recipe, model: str) -> list[str]:
        """Unavailable corpora that a model needs."""
        return sorted(set(recipe.corpora_of(model)) & set(self.missing))

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


def prepare(work: Workspace, options: PrepareOptions, *, look: bool = True) -> Prepared:
    """Obtain the tokenizer and prepare every corpus, unless this was done before.

    Args:
        work: the family.
        options: how to prepare.
        look: compare the sources of prepared corpora with what they were prepared from; see `prepare_versions`.

    Raises:
        CorpusError: the text, the tokenizer or the disk does not meet the requirements.
        SourceError: the tokenizer is unavailable. A corpus whose source is unavailable is listed in `missing`.
        WorkerLostError: a worker process was killed.
    """
    tokenizer, trained = prepare_tokenizer(work, options.reuse), Trained(work)
    corpora, missing, several = dict[str, "PreparedCorpus"](), dict[str, str](), dict[str, list["PreparedCorpus"]]()
    for name in work.recipe.corpora:
        lock = work.layout.corpus(name).with_name(f".{name}.lock")
        try:
            before = _before(work.recipe, name, corpora)
            with one_at_a_time(lock, partial(work.progress.say, _WAITING.format(name))):
                versions = prepare_versions(work, name, tokenizer, options, trained=trained, look=look, before=before)
        except SourceError as error:
            missing[name] = str(error)
            _log.warning("corpus %s: %s", name, error)
            continue
        corpora[name] = versions[-1]
        if len(versions) > 1:
            several[name] = versions
            corpora[name] = next(filter(trained.models_on, reversed(versions)), versions[-1])
        for replaced, text in corpora[name].manifest.replacements.items():
            work.progress.say(f"corpus {name}: {_replaced(replaced, text)}")
    return Prepared(tokenizer, corpora, missing, several)


def _replaced(builtin: str, text: str) -> str:
    """That a corpus holds another text than the builtin source in the recipe, and why."""
    if (still := replacement_of(builtin)) is not None:
        return f"{still.reason}, so it holds {text} instead of {builtin}"
    return (
        f"it holds {text} instead of {builtin}, which was unavailable when it was prepared; "
        f"--refresh-corpora prepares it from {builtin}"
    )


def _before(recipe: Recipe, name: str, prepared: Mapping[str, PreparedCorpus]) -> list[PreparedCorpus]:
    """The corpora of whose documents a corpus holds no copies.

    Raises:
        SourceError: one of them is not prepared.
    """
    needed = corpora_before(recipe.corpora, name)
    if lacking := [other for other in needed if other not in prepared]:
        raise SourceError(
            f"it may hold no copies of {', '.join(lacking)}, which is unavailable; make that available, or set "
            f"corpora.{name}.deduplicate.across: false"
        )
    return [prepared[other] for other in needed]


def prepare_tokenizer(work: Workspace, reuse: Path | None = None) -> Tokenizer:
    """The family's tokenizer; obtains or trains it if needed.

    Args:
        work: the family.
        reuse: folder of another family, whose tokenizer is linked if it was trained on the same text.

    Raises:
        UserError: the other folder holds no family.
    """
    work.claim()
    work.progress.say("tokenizer")
    if reuse is not None:
        other = FamilyLayout(reuse)
        if not other.corpora.is_dir():
            raise UserError(f"{reuse}: holds no prepared corpora to reuse; name the folder of another family")
        if work.recipe.tokenizer.train is not None and reuse_tokenizer(
            work.recipe, work.layout.tokenizer, other, work.root
        ):
            work.progress.say(f"tokenizer: that of {other.tokenizer}, whose files are linked")
    imported = work.layout.imported_tokenizer
    if work.recipe.tokenizer.imported and not imported.is_dir():
        from tinyllama.family.import_model import open_start  # imports torch

        open_start(work.recipe).write_tokenizer(imported)
    return obtain_tokenizer(work.recipe, work.layout.tokenizer, work.root, _ignore)


def _ignore(_rejected: Rejected) -> None:
    """Ignore rejected documents during tokenizer training; they are counted when their corpus is prepared."""
