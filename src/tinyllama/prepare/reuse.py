"""Takes a corpus from another family's folder, if it was prepared there from the same text in the same way.

Its files are linked, so that it takes no space, and stays when the other family is deleted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.corpus.manifest import CORPUS_FOLDER, MANIFEST, open_corpus
from tinyllama.errors import CorpusError
from tinyllama.files import link_or_copy, sha256_file, sha256_json
from tinyllama.folders import claim, replaced_folder
from tinyllama.prepare.changes import is_of_same_text
from tinyllama.quality.requirements import package_versions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.recipe import Corpus


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
    if manifest.license != settings.license:
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
                    f"{found.folder / file}: is damaged, so the corpus cannot be reused; prepare without --reuse"
                )
            link_or_copy(found.folder / file, beside / file)
        link_or_copy(found.folder / MANIFEST, beside / MANIFEST)
    return open_corpus(folder)
