"""The corpora of a family as they were prepared, and the documents that they do not hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinyllama.corpus.manifest import MANIFEST, SPLITS, prepared_versions, read_manifest
from tinyllama.errors import CorpusError, UserError
from tinyllama.sources.rejected import read_rejected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tinyllama.layout import FamilyLayout
    from tinyllama.recipe import Recipe
    from tinyllama.sources.rejected import Rejected

_REJECTED = "rejected.jsonl"


@dataclass(frozen=True)
class SplitSummary:
    """The training or the held-out part."""

    documents: int
    tokens: int
    bytes: int
    """UTF-8 bytes of its text."""


@dataclass(frozen=True)
class CorpusView:
    """A corpus of a family, as the page lists it."""

    name: str
    folder: str
    """Of its newest preparation, in the family's folder; empty if it is not prepared."""
    license: str
    sources: list[str]
    splits: dict[str, SplitSummary]
    """`train` and `held_out`; empty if it is not prepared."""
    quarantined: dict[str, int]
    """Kind → entries."""
    error: str = ""
    """Why it cannot be shown."""


def corpora(layout: FamilyLayout, recipe: Recipe) -> Iterator[CorpusView]:
    """Every corpus of a recipe."""
    for name, corpus in recipe.corpora.items():
        sources = [source.files or f"builtin: {source.builtin}" for source in corpus.sources]
        try:
            folder = _newest(layout, name)
            manifest = read_manifest(folder / MANIFEST)
        except (CorpusError, FileNotFoundError) as error:
            yield CorpusView(name, "", corpus.license, sources, {}, {}, str(error))
            continue
        splits = {
            split: SplitSummary(entry.documents, entry.tokens, entry.bytes)
            for split, entry in ((split, manifest.splits[split]) for split in SPLITS)
        }
        replaced = [f"{text} instead of {builtin}" for builtin, text in manifest.replacements.items()]
        yield CorpusView(name, folder.name, manifest.license, [*sources, *replaced], splits, manifest.quarantined)


def quarantined(layout: FamilyLayout, recipe: Recipe, name: str, kind: str, text: str) -> Iterator[Rejected]:
    """Documents and files that a corpus does not hold, or only after a repair, with their reasons.

    Args:
        layout: of the family.
        recipe: the family's.
        name: of the corpus.
        kind: only of this kind; empty for all.
        text: only those with this in their origin, reason or excerpt.

    Raises:
        UserError: there is no such corpus.
        CorpusError: it is not prepared.
    """
    if name not in recipe.corpora:
        raise UserError(f"{recipe.name} has no corpus {name}; it has {', '.join(recipe.corpora)}")
    path = _newest(layout, name) / _REJECTED
    for entry in read_rejected(path) if path.is_file() else ():
        if kind in {"", entry.kind} and any(text in part for part in (entry.origin, entry.reason, entry.excerpt)):
            yield entry


def _newest(layout: FamilyLayout, name: str) -> Path:
    versions = prepared_versions(layout, name)
    if not versions:
        raise CorpusError(f"corpora/{name}: is not prepared; run `tinyllama prepare`")
    return versions[-1]
