"""What is in a text: files, size, documents, exact duplicates, scripts and languages; and samples for tokenizers."""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from tinyllama.errors import CorpusError
from tinyllama.quality.languages import identify
from tinyllama.recipe import Corpus
from tinyllama.sources.documents import plan_tasks, read_task, utf8_bytes
from tinyllama.sources.rejected import Reasons

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tinyllama.sources.documents import Document, ReadTask
    from tinyllama.sources.rejected import Reject, Rejected

BUILTIN_MARK = "builtin:"
"""Begins the name of a builtin source, where others are paths."""
_MOST_READ = 64_000_000
"""Bytes of text of a corpus that are read at most, in parts that lie as far apart as possible."""
_SAMPLED = 6_000_000
"""Bytes of the samples."""
_PIECE = 8000
"""Characters of a sample."""
_IDENTIFIED = 300
"""Samples whose language is identified, about, or all of fewer."""
_OTHER = "other"
"""Characters that belong to no script: digits, punctuation, symbols, white space."""


@dataclass
class TextSurvey:
    """A text, or the part of it that was read."""

    name: str
    corpus: Corpus
    """As a recipe has it, but for the held-out part."""
    files: int = 0
    documents: int = 0
    """That were read."""
    read: int = 0
    """UTF-8 bytes of these."""
    expected: int = 0
    """UTF-8 bytes of the whole text; an estimate if not all was read."""
    is_complete: bool = True
    duplicates: int = 0
    """Documents that were read and equal an earlier one."""
    duplicate_bytes: int = 0
    suffixes: Counter[str] = field(default_factory=Counter)
    """Files by suffix."""
    scripts: Counter[str] = field(default_factory=Counter)
    """Letters of the samples by Unicode script."""
    languages: Counter[str] | None = None
    """UTF-8 bytes of some samples by language; None without py3langid."""
    groups: dict[str, int] = field(default_factory=dict)
    """UTF-8 bytes of each whole document that was read, but for copies, by the name that decides whether it is held
    out."""
    samples: list[str] = field(default_factory=list)
    """Pieces from all over the text."""
    rejected: int = 0
    """Documents and files that cannot be read, or are not text."""
    first_rejected: str = ""
    """The first of them, and why."""

    @property
    def unique_bytes(self) -> int:
        """UTF-8 bytes of the whole text without exact duplicates, in proportion to what was read."""
        return self.expected if not self.read else round(self.expected * (1 - self.duplicate_bytes / self.read))

    def script_shares(self) -> dict[str, float]:
        """Scripts of at least a hundredth of the letters, the most frequent first."""
        return _shares(self.scripts)

    def language_shares(self) -> dict[str, float] | None:
        """Languages of at least a hundredth of the samples' bytes, the most frequent first; None without py3langid."""
        return None if self.languages is None else _shares(self.languages)


def _shares(counts: Counter[str]) -> dict[str, float]:
    total = counts.total() or 1
    return {name: count / total for name, count in counts.most_common() if count >= 0.01 * total}


def survey_text(name: str, sources: Sequence[str], root: Path, text_field: str = "text") -> TextSurvey:
    """Look at a text.

    Args:
        name: of the corpus that it becomes.
        sources: paths, globs and URLs, or `builtin:NAME`.
        root: folder that relative paths start from.
        text_field: of JSON, Parquet and Arrow documents.

    Raises:
        CorpusError: a path matches nothing, or holds no text.
        SourceError: a remote or builtin source is unavailable.
    """
    corpus = _corpus(sources, text_field)
    survey, reasons = TextSurvey(name, corpus), Reasons()

    def reject(rejected: Rejected) -> None:
        reasons(rejected)
        if rejected.kind in {"damaged", "skipped"}:
            survey.rejected += 1
            survey.first_rejected = survey.first_rejected or f"{rejected.origin}: {rejected.reason}"

    tasks = plan_tasks(corpus, root, reject, name=name)
    files = [file for task in tasks for file in task.files]
    survey.files = len(files)
    survey.suffixes.update(PurePosixPath(file.origin).suffix.lower() for file in files)
    reader = _Reader(survey, sum(file.text_bytes for file in files))
    chosen = _spread(tasks)
    whole = [reader.read(task, reject) for task in chosen]
    survey.is_complete = len(chosen) == len(tasks) and all(whole)
    if not survey.documents:
        raise CorpusError(f"{name}: no text is found in {', '.join(sources)}; name files or folders of text{reasons}")
    survey.expected = survey.read if survey.is_complete else max(survey.read, reader.expected())
    for sample in survey.samples:
        survey.scripts.update(Counter(script for char in sample if (script := _script(char)) != _OTHER))
    survey.languages = _languages(survey.samples)
    return survey


def _languages(samples: Sequence[str]) -> Counter[str] | None:
    """UTF-8 bytes of samples from all over the text, by language; None without py3langid."""
    if find_spec("py3langid") is None:
        return None
    found = Counter[str]()
    for sample in samples[:: max(1, len(samples) // _IDENTIFIED)]:
        found[identify(sample).code] += utf8_bytes(sample)
    return found


def _corpus(sources: Sequence[str], text_field: str) -> Corpus:
    field_key = {} if text_field == "text" else {"text_field": text_field}
    return Corpus.model_validate({
        "sources": [
            {"builtin": source.removeprefix(BUILTIN_MARK)}
            if source.startswith(BUILTIN_MARK)
            else {"files": source} | field_key
            for source in sources
        ],
        "size": 1,
        "license": "unknown",
        "held_out": {"share": "1%"},
    })  # fmt: skip


def _spread(tasks: list[ReadTask]) -> list[ReadTask]:
    """Tasks as far apart as possible that hold about as much text as is read."""
    total = sum(task.text_bytes for task in tasks)
    if total <= _MOST_READ:
        return tasks
    count = max(1, len(tasks) * _MOST_READ // total)
    return [tasks[index * len(tasks) // count] for index in range(count)]


class _Reader:
    """Reads tasks up to a number of bytes."""

    def __init__(self, survey: TextSurvey, stated: int) -> None:
        self._survey, self._stated = survey, stated
        self._seen: set[bytes] = set()
        self._whole = [0, 0]
        """Bytes that files of tasks that were read to their end were expected to hold, and held."""
        self._every = max(1, stated // _SAMPLED)
        """One of this number of pieces is a sample."""

    def read(self, task: ReadTask, reject: Reject) -> bool:
        """Read a task; whether to its end."""
        before = self._survey.read
        for document in read_task(self._survey.corpus, task, reject):
            if self._survey.read >= _MOST_READ:
                return False
            self._add(document)
        self._whole[0] += task.text_bytes
        self._whole[1] += self._survey.read - before
        return True

    def expected(self) -> int:
        """Bytes of the whole text, in proportion to what tasks that were read were expected to hold."""
        stated, held = self._whole
        return round(self._stated * (held / stated if stated else 1.0))

    def _add(self, document: Document) -> None:
        survey, size = self._survey, utf8_bytes(document.text)
        digest = blake2b(document.text.encode(), digest_size=12).digest()
        survey.documents += 1
        survey.read += size
        if digest in self._seen:
            survey.duplicates += 1
            survey.duplicate_bytes += size
            return
        self._seen.add(digest)
        survey.groups[document.group] = survey.groups.get(document.group, 0) + size
        first = int.from_bytes(digest[:4])
        for number, start in enumerate(range(0, len(document.text), _PIECE)):
            if (first + number) % self._every == 0:
                survey.samples.append(document.text[start : start + _PIECE])


@cache
def _script(character: str) -> str:
    """The first word of a letter's Unicode name: LATIN, CYRILLIC, CJK, DEVANAGARI."""
    if not character.isalpha():
        return _OTHER
    return unicodedata.name(character, _OTHER).partition(" ")[0].capitalize()
