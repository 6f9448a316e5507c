"""What checks know: the recipe, the family's folder, what the command is about to do, and what is prepared already."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

from tinyllama.corpus.manifest import HELD_OUT, SPLITS, open_corpus, prepared_versions
from tinyllama.errors import CorpusError
from tinyllama.family.preflight.survey import Survey, survey_corpus
from tinyllama.layout import BASE
from tinyllama.prepare.prepare import corpus_request

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.layout import FamilyLayout
    from tinyllama.recipe import Recipe
    from tinyllama.tokenizer.base import Tokenizer

Phase = Literal["prepare", "train", "report"]
"""What a command does; `report` also evaluates and exports."""
ALL_PHASES: frozenset[Phase] = frozenset({"prepare", "train", "report"})


class Finding(NamedTuple):
    """One thing that a check found."""

    text: str
    """What is wrong, where, and the remedy."""
    is_fault: bool = True
    """Whether it ends the command; otherwise it is shown."""


@dataclass(frozen=True)
class Situation:
    """What is known before a phase."""

    recipe: Recipe
    layout: FamilyLayout
    """The paths of the family's outputs."""
    root: Path
    """Base of relative paths in the recipe."""
    data: Path
    """Folder with local copies of the tasks' data."""
    phases: frozenset[Phase]
    """What the command does. What a later command alone needs is noted, and is no fault."""
    models: tuple[str, ...]
    """The models that it trains."""
    ranks: int = 1
    """Processes that train together."""
    per_node: int = 1
    """Those on each machine."""
    here: bool = True
    """Whether training runs on this machine."""
    skips_models: bool = False
    """Whether a model whose text is unavailable is skipped."""
    tokenizer: Tokenizer | None = None
    """The family's, once it exists."""
    prepared: Mapping[str, PreparedCorpus] | None = None
    """The corpora, once they are prepared; those whose source is unavailable are not in it."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Corpus whose source turned out to be unavailable → reason."""

    def needed_by(self, phase: Phase, text: str) -> Finding:
        """A fault if the command runs this phase, else a note."""
        return Finding(text, is_fault=phase in self.phases)

    @cached_property
    def corpora(self) -> Mapping[str, PreparedCorpus]:
        """The corpora that are prepared already, from the text that the recipe names now."""
        return self._found() if self.prepared is None else self.prepared

    @cached_property
    def surveys(self) -> Mapping[str, Survey]:
        """What can be known of the other corpora before they are prepared."""
        if self.prepared is not None:
            return {}
        others = {name: corpus for name, corpus in self.recipe.corpora.items() if name not in self.corpora}
        return {
            name: survey_corpus(corpus, name, self.root, self.recipe.longest_context) for name, corpus in others.items()
        }

    def trained_on(self, models: tuple[str, ...]) -> set[str]:
        """The corpora that models are trained on; a variant's base included."""
        return {name for model in (BASE, *models) for name in self.recipe.corpora_of(model)}

    def _found(self) -> dict[str, PreparedCorpus]:
        found = {}
        for name in self.recipe.corpora:
            for folder in prepared_versions(self.layout, name):
                try:
                    corpus = open_corpus(folder)
                except CorpusError:  # it is prepared again
                    continue
                # The tokenizer may not exist yet. Another one makes another corpus, of the same text.
                request = corpus_request(self.recipe, name, corpus.manifest.request.tokenizer)
                # One that is too short may be of text that has grown since.
                if request.is_met_by(corpus.manifest.request) and not self.short_parts(corpus):
                    found[name] = corpus  # the newest
        return found

    def short_parts(self, corpus: PreparedCorpus) -> dict[str, int]:
        """The parts of a prepared corpus that do not fill a row: split → its tokens."""
        used = corpus.name in self.trained_on(tuple(self.recipe.models))
        tokens = {split: corpus.tokens(split) for split in (SPLITS if used else (HELD_OUT,))}
        return {split: count for split, count in tokens.items() if count <= self.recipe.longest_context}
