"""What changed in the sources of a corpus since it was prepared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tinyllama.corpus.manifest import BuiltinEntry
from tinyllama.errors import CorpusError
from tinyllama.prepare.task import FILES
from tinyllama.sources.builtin.registry import builtin_version, replacement_of
from tinyllama.sources.files import FileFinder, is_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.recipe import Corpus
    from tinyllama.sources.files import SourceFile
    from tinyllama.sources.rejected import Rejected

_NAMED = 3
"""Files that a message names."""
_CLOCK = 2.0
"""Seconds by which the times of files on different file systems may differ."""


class SourceChanges(NamedTuple):
    """Files of a corpus's sources, by what happened to them; falsy if nothing did."""

    added: Sequence[str] = ()
    removed: Sequence[str] = ()
    edited: Sequence[str] = ()
    """Files with other content; builtin sources of another version."""
    others: Sequence[str] = ()
    """Corpora of whose documents this one holds no copies, and which are other ones now."""

    def __bool__(self) -> bool:
        """Whether anything changed."""
        return any(self)

    def __str__(self) -> str:
        """`2 files added (a.txt, b.txt), 1 file removed (c.txt)`."""
        files = zip(self._fields, self[:3], strict=False)
        told = [_listed(names, what) for what, names in files if names]
        if self.others:
            told.append(f"the corpora whose copies it lacks changed ({', '.join(self.others)})")
        return ", ".join(told)


def _listed(names: Sequence[str], what: str) -> str:
    more = ", …" if len(names) > _NAMED else ""
    return f"{len(names):,} file{'s' * (len(names) > 1)} {what} ({', '.join(names[:_NAMED])}{more})"


def source_changes(
    corpus: PreparedCorpus,
    settings: Corpus,
    root: Path,
    before: Sequence[PreparedCorpus] = (),
    *,
    thorough: bool = False,
) -> SourceChanges:
    """Compare the local files of a corpus's sources with those that it was prepared from.

    A file is read only where its time is later than the preparation's; then its fingerprint decides.

    Args:
        corpus: the prepared corpus.
        settings: the same corpus in the recipe.
        root: folder that relative file patterns start from.
        before: the corpora of whose documents it should hold no copies.
        thorough: compare remote files and builtin sources too, and count a file of more than 2 MiB as edited if it was
            written to since, since its fingerprint covers its ends alone.

    Returns:
        No changes of files if a source is not there at all: its text may stay on another machine.

    Raises:
        CorpusError: a source is not there, with `thorough`.
        SourceError: a remote source is unavailable, with `thorough`.
    """
    others = _other_corpora(corpus, before)
    try:
        found = {file.origin: file for file in _find(settings, root, thorough=thorough)}
    except CorpusError:
        if thorough:
            raise
        return SourceChanges(others=others)
    began, recorded = _recorded_files(corpus)
    if not thorough:
        recorded = {name: entry for name, entry in recorded.items() if not is_url(name)}
    edited = [
        name
        for name in found.keys() & recorded.keys()
        if _is_edited(found[name], *recorded[name], began=began, thorough=thorough)
    ]
    if thorough:
        edited += _changed_builtins(corpus, settings)
    return SourceChanges(
        sorted(found.keys() - recorded.keys()), sorted(recorded.keys() - found.keys()), sorted(edited), others
    )


def is_of_same_text(
    corpus: PreparedCorpus, settings: Corpus, root: Path, before: Sequence[PreparedCorpus] = ()
) -> bool:
    """Whether sources are those that a corpus was prepared from, wherever that was: all files are read.

    A file of more than 2 MiB must also be older than the corpus, since its fingerprint covers its ends alone.

    Args:
        corpus: the prepared corpus.
        settings: a corpus in a recipe.
        root: folder that relative file patterns start from.
        before: the corpora of whose documents it should hold no copies.

    Raises:
        CorpusError: a source is not there.
        SourceError: a remote source is unavailable.
    """
    return not _other_corpora(corpus, before) and has_same_sources(corpus, settings, root)


def has_same_sources(corpus: PreparedCorpus, settings: Corpus, root: Path) -> bool:
    """What `is_of_same_text` says, whatever the corpora are of whose documents the corpus holds no copies."""
    began, recorded = _recorded_files(corpus)
    found = {file.origin: file for file in _find(settings, root, thorough=True)}
    if found.keys() != recorded.keys() or any(_changed_builtins(corpus, settings)):
        return False
    return all(_is_same(file, *recorded[name], began) for name, file in found.items())


def is_older(settings: Corpus, root: Path, time: float) -> bool:
    """Whether the local files of a corpus's sources were last written to before a time, in seconds since the epoch.

    Raises:
        CorpusError: a source is not there.
    """
    return all(_changed_at(file) < time for file in _find(settings, root, thorough=False))


def _changed_at(file: SourceFile) -> float:
    status = Path(file.location).stat()
    return max(status.st_mtime, status.st_ctime)  # the second, for a file that was moved here


def _is_same(file: SourceFile, size: int, fingerprint: str, began: float) -> bool:
    if file.bytes != size or file.fingerprint() != fingerprint:
        return False
    return is_url(file.location) or file.is_sampled_whole or _changed_at(file) < began


def _recorded_files(corpus: PreparedCorpus) -> tuple[float, dict[str, tuple[int, str]]]:
    """When the corpus's preparation began, and size and fingerprint of each file by its name."""
    path = corpus.folder / FILES
    with path.open(encoding="utf-8") as file:  # whose lines end at line feeds alone, not at U+2028
        recorded = {line["file"]: (line["bytes"], line["fingerprint"]) for line in map(json.loads, file)}
    return path.stat().st_mtime - _CLOCK, recorded


def _other_corpora(corpus: PreparedCorpus, before: Sequence[PreparedCorpus]) -> list[str]:
    quality = corpus.manifest.quality
    recorded = quality.before if quality is not None else {}
    now = {other.name: other.sha256 for other in before}
    return sorted(name for name in recorded.keys() | now.keys() if recorded.get(name) != now.get(name))


def _find(settings: Corpus, root: Path, *, thorough: bool) -> Iterator[SourceFile]:
    finder = FileFinder(root, "", _ignore)
    for source in settings.sources:
        if source.files is not None and (thorough or not is_url(source.files)):
            yield from finder.find(source)


def _is_edited(file: SourceFile, size: int, fingerprint: str, *, began: float, thorough: bool) -> bool:
    if file.bytes != size:
        return True
    if not is_url(file.location):
        if _changed_at(file) < began:
            return False
        if thorough and not file.is_sampled_whole and Path(file.location).stat().st_mtime >= began:
            return True
    return file.fingerprint() != fingerprint


def _changed_builtins(corpus: PreparedCorpus, settings: Corpus) -> Iterator[str]:
    for source, entry in zip(settings.sources, corpus.manifest.sources, strict=True):
        if source.builtin is None or not isinstance(entry, BuiltinEntry):
            continue
        replacement = replacement_of(source.builtin)
        if replacement is not None and entry.replaces is None:  # it holds the real text, which is unavailable now
            continue
        read = source.builtin if replacement is None else replacement.name
        if builtin_version(read).sha256 != entry.sha256:
            yield source.builtin


def _ignore(_rejected: Rejected) -> None:
    """Ignore files that are not read: they are not in the corpus."""
