"""Takes tokenizer and corpora from another family's folder, if they were made there from the same text in the same way.

Its files are linked, so that it takes no space, and stays when the other family is deleted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.corpus.manifest import CORPUS_FOLDER, MANIFEST, open_corpus, prepared_versions
from tinyllama.errors import CorpusError
from tinyllama.files import link_or_copy, sha256_file, sha256_json
from tinyllama.folders import claim, replaced_folder
from tinyllama.prepare.changes import has_same_sources, is_of_same_text, is_older
from tinyllama.prepare.job import license_of
from tinyllama.prepare.tokenizer import ORIGIN, holds_tokenizer, link_tokenizer, text_keys, training_corpora
from tinyllama.quality.requirements import package_versions
from tinyllama.tokenizer.opening import open_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.layout import FamilyLayout
    from tinyllama.recipe import Corpus, Recipe


def reuse_tokenizer(recipe: Recipe, folder: Path, other: FamilyLayout, root: Path) -> bool:
    """Link another family's trained tokenizer into `folder`, if training here would give it and the folder has none.

    Only the corpora of the other family say what text its tokenizer was trained on, so that all of them must be there.

    Args:
        recipe: the recipe, whose tokenizer is trained.
        folder: the family's tokenizer folder.
        other: the other family.
        root: folder that the recipe's relative paths start from.

    Raises:
        CorpusError: the folder holds something else, or a source is not there.
        SourceError: a remote source is unavailable.
    """
    if holds_tokenizer(recipe, folder, root) or not holds_tokenizer(recipe, other.tokenizer, root):
        return False
    tokenizer, made = open_tokenizer(other.tokenizer).sha256, (other.tokenizer / ORIGIN).stat().st_mtime
    for name in training_corpora(recipe):
        found, settings = _first_prepared(other, name, tokenizer), recipe.corpora[name]
        if found is None or not _gave_same_text(found, settings, root) or not is_older(settings, root, made):
            return False
    link_tokenizer(folder, other.tokenizer)
    return True


def _first_prepared(family: FamilyLayout, name: str, tokenizer: str) -> PreparedCorpus | None:
    """Of the preparations of a corpus with a tokenizer, the first: later ones may be of text that changed since."""
    for folder in prepared_versions(family, name):
        try:
            found = open_corpus(folder)
        except CorpusError:
            continue
        if found.manifest.request.tokenizer == tokenizer:
            return found
    return None


def _gave_same_text(found: PreparedCorpus, settings: Corpus, root: Path) -> bool:
    """Whether a tokenizer that was trained on the text of a corpus would be trained on the same text here."""
    request, quality = found.manifest.request.model_dump(), found.manifest.quality
    keys = text_keys(settings)
    if keys != {key: request[key] for key in {*keys, "filters", "pii"} & request.keys()}:
        return False
    if quality is not None and dict(quality.libraries) != package_versions(settings):
        return False
    return has_same_sources(found, settings, root)


def is_reusable(
    found: PreparedCorpus,
    settings: Corpus,
    root: Path,
    before: Sequence[PreparedCorpus],
    questions: Mapping[str, list[str]],
) -> bool:
    """Whether preparing a corpus here would give the one that was found, whose request is met.

    Args:
        found: the corpus of another family, of the same name, which decides what is held out.
        settings: the corpus in the recipe.
        root: folder that relative file patterns start from.
        before: the corpora of whose documents it should hold no copies.
        questions: of the tasks in `decontaminate`.

    Raises:
        CorpusError: a source is not there.
        SourceError: a remote source is unavailable.
    """
    manifest, quality = found.manifest, found.manifest.quality
    if manifest.license != license_of(settings, manifest.sources):
        return False
    if quality is not None and (
        dict(quality.libraries) != package_versions(settings)
        or quality.questions != (sha256_json({**questions}) if questions else None)
    ):
        return False
    return is_of_same_text(found, settings, root, before)


def link_corpus(found: PreparedCorpus, folder: Path) -> PreparedCorpus:
    """Link the files of a corpus into a folder, or copy them on a file system without links.

    Raises:
        CorpusError: the folder holds something else, or a file of the corpus is damaged.
    """
    claim(folder, CORPUS_FOLDER, CorpusError)
    with replaced_folder(folder, CORPUS_FOLDER, CorpusError) as beside:
        for file, entry in found.manifest.files.items():
            if sha256_file(found.folder / file) != entry.sha256:
                raise CorpusError(
                    f"{found.folder / file}: is damaged, so the corpus cannot be reused; prepare it again in a new "
                    "folder, without --reuse"
                )
            link_or_copy((found.folder / file).resolve(), beside / file)
        link_or_copy((found.folder / MANIFEST).resolve(), beside / MANIFEST)
    return open_corpus(folder)
