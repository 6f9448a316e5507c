"""What can be known of a corpus before it is prepared, from its files and the beginning of its text."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from io import BufferedReader, RawIOBase
from typing import TYPE_CHECKING

from tinyllama.corpus.manifest import HELD_OUT, SPLITS, TRAIN
from tinyllama.errors import CorpusError, SourceError
from tinyllama.prepare.held_out import is_held_out
from tinyllama.sources.builtin.registry import BUILTIN, read_builtin
from tinyllama.sources.checks import check_sources
from tinyllama.sources.documents import Document, plan_tasks, read_task, utf8_bytes
from tinyllama.sources.files import SourceFile, is_url
from tinyllama.sources.records import record_suffix
from tinyllama.sources.token_files import is_token_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from _typeshed import WriteableBuffer

    from tinyllama.recipe import Corpus
    from tinyllama.sources.documents import ReadTask
    from tinyllama.sources.rejected import Rejected

_MOST_READ = 32_000_000
"""Bytes of a corpus's files that are read at most. A text file that is larger is one document, known by its name."""
_SURELY_ENOUGH = 8
"""Bytes of a token, more than any tokenizer's mean; a part with as many for each token of a row is long enough."""
_LARGE = 10**18
"""Stands for the bytes of a text that is not read."""


@dataclass
class Survey:
    """A corpus before it is prepared."""

    tasks: list[ReadTask] = field(default_factory=list)
    """The tasks of its preparation."""
    problem: str | None = None
    """Why it cannot be prepared."""
    is_unavailable: bool = False
    """Whether the problem is a remote or builtin source, which may be available later."""
    is_complete: bool = False
    """Whether all text was seen."""
    documents: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    """Documents by split, pieces of a cut one included."""
    bytes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    """UTF-8 bytes by split."""
    groups: dict[str, int] = field(default_factory=dict)
    """UTF-8 bytes of each whole document."""
    rejected: list[Rejected] = field(default_factory=list)
    """What could not be read."""

    def most_tokens(self, split: str) -> int:
        """Tokens that a split has at most: one a byte, and BOS, EOS and a space around each document."""
        return self.bytes[split] + 4 * self.documents[split]


def survey_corpus(corpus: Corpus, name: str, root: Path, context: int) -> Survey:
    """List a corpus's files, and read its text until each part is surely longer than a row.

    Text that is remote, or in a package that is not fetched yet, is not read.
    """
    survey = Survey()
    try:
        check_sources(corpus, name, root)
        survey.tasks = plan_tasks(corpus, root, survey.rejected.append, name=name)
        survey.is_complete = _read(survey, corpus, name, enough=_SURELY_ENOUGH * (context + 1))
    except SourceError as error:
        survey.problem, survey.is_unavailable = str(error), True
    except CorpusError as error:
        survey.problem = str(error)
    return survey


def _read(survey: Survey, corpus: Corpus, name: str, *, enough: int) -> bool:
    """Count documents by split; whether all were counted."""
    is_whole, budget = True, _Budget(_MOST_READ)
    with suppress(_SpentError):
        for task in survey.tasks:
            for document, size in _documents(survey, corpus, task, budget):
                if document is None:
                    is_whole = False
                    continue
                split = HELD_OUT if is_held_out(document, corpus.held_out, name) else TRAIN
                survey.documents[split] += 1
                survey.bytes[split] += size
                survey.groups[document.group] = survey.groups.get(document.group, 0) + size
                if min(survey.bytes.values()) >= enough:
                    return False
    return is_whole and not budget.is_spent


def _documents(
    survey: Survey, corpus: Corpus, task: ReadTask, budget: _Budget
) -> Iterator[tuple[Document | None, int]]:
    """Documents of a task and their sizes; None for text that cannot be read yet."""
    source = corpus.sources[task.source]
    if source.builtin is not None:
        read_builtin(source.builtin)  # refuses an unknown name
        if BUILTIN[source.builtin].package is not None:
            yield None, 0
            return
    large = [file for file in task.files if _is_large(file)]
    unread = [file for file in task.files if is_url(file.location) or is_token_file(file.origin)]
    if unread or (large and corpus.cut is not None):
        yield None, 0
        return
    for file in large:
        yield Document("", file.origin, file.origin, 0), _LARGE
    rest = task._replace(files=tuple(budget.limit(file) for file in task.files if not _is_large(file)))
    if source.builtin is not None or rest.files:
        with suppress(UnicodeEncodeError):
            for document in read_task(corpus, rest, survey.rejected.append):
                yield document, utf8_bytes(document.text)


def _is_large(file: SourceFile) -> bool:
    """Whether a file is one document that takes long to read."""
    return file.bytes > _MOST_READ and record_suffix(file.origin) is None


class _SpentError(Exception):
    """As much was read as may be."""


class _Budget:
    """Bytes that may still be read from files."""

    def __init__(self, left: int) -> None:
        self.left = left

    @property
    def is_spent(self) -> bool:
        """Whether a file was not read to its end."""
        return self.left < 0

    def limit(self, file: SourceFile) -> SourceFile:
        """A file that raises `_SpentError` when more of it is read."""
        return _LimitedFile(file.location, file.origin, file.bytes, file.version, self)


@dataclass(frozen=True, slots=True)
class _LimitedFile(SourceFile):
    budget: _Budget

    def open(self) -> BinaryIO:
        """Open the file to read bytes within the budget."""
        # Not super(): the class that it would name is the one before `slots` made another of it.
        return BufferedReader(_LimitedReader(SourceFile.open(self), self.budget), 1 << 16)


class _LimitedReader(RawIOBase):
    def __init__(self, file: BinaryIO, budget: _Budget) -> None:
        self._file, self._budget = file, budget

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._file.read(len(view))
        self._budget.left -= len(data)
        if self._budget.is_spent:
            raise _SpentError
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
