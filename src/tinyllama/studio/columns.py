"""A columnar copy of one model's metrics.jsonl that is appended to, so that a run of a million steps opens at once.

The copy is a folder beside the file: the numbers of each column, the records that are no updates as they are, and
`state.json`, which says how much of metrics.jsonl they hold. The newest steps are only in memory. Training that resumes
cuts metrics.jsonl at its checkpoint: the copy then goes back to the last of its marks whose line is still there, which
the chain in that line proves to be the same history. The files are never cut, since they are mapped into memory.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import secrets
import threading
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np

from tinyllama.errors import ModelError, UserError
from tinyllama.files import fsync_path
from tinyllama.locks import FolderLock
from tinyllama.record_files import FileRecord, read_record, write_record
from tinyllama.studio.metric_blocks import COLUMNS, SEQUENCES, BlockReader, joined
from tinyllama.train.metrics import parse_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from tinyllama.studio.metric_blocks import Block
    from tinyllama.train.metrics import Record

BLOCK = 1 << 21
"""Bytes that are read at once."""
_STATE, _EVENTS = "state.json", "events.jsonl"
_IN_MEMORY, _WHILE_BEHIND = 1 << 12, 1 << 16
"""Steps that are appended to the files together: of a run that is followed, and of one that is read up to its end."""
_RELEASES = hasattr(mmap, "MADV_DONTNEED")
_RELEASED = 1 << 18
"""Bytes of a column from which its pages are released."""
_SMALL = 512
"""Steps of a block up to which the next one is joined to it: of a run that is followed, each block is a step or two."""


class Mark(FileRecord):
    """A line of metrics.jsonl up to which the columns hold everything."""

    offset: int
    """Bytes of metrics.jsonl up to its end."""
    lines: int
    rows: int
    """In each column."""
    events: int
    """Bytes of the file of other records."""
    size: int
    """Bytes of the line."""
    sha256: str
    """Of the line."""


class ColumnsState(FileRecord):
    """`state.json`."""

    FORMAT: ClassVar[int] = 1

    format: int = FORMAT
    corpora: tuple[str, ...]
    stages: tuple[str, ...]
    marks: tuple[Mark, ...]
    """From the first to the last."""


_START = Mark(offset=0, lines=0, rows=0, events=0, size=0, sha256="")


class MetricColumns:
    """One model's metrics by columns; `update` reads what was appended to the file."""

    def __init__(self, metrics: Path, corpora: Sequence[str], folder: Path) -> None:
        """Open the copy, or begin one.

        Args:
            metrics: the file.
            corpora: the recipe's.
            folder: of the copy; where it cannot be written, or another process writes it, a temporary one is used.
        """
        self._metrics, self._corpora = metrics, tuple(corpora)
        self._held = ExitStack()
        self._folder = self._own(folder)
        self._types = COLUMNS | dict.fromkeys(corpora, SEQUENCES)
        self._guard = threading.RLock()
        self._failed_at = -1
        """Size of the file when a line of it could not be read."""
        self.error = ""
        """Why nothing is read past a line; empty if all is well."""
        self.version = 0
        """Rises with every change that was read."""
        self.history = 0
        """Changes when steps were dropped, so that what was read before is another history."""
        state = self._read_state()
        self._marks = [] if state is None else list(state.marks)
        self._reader = BlockReader(metrics, self._corpora, [] if state is None else list(state.stages))
        self._mapped: dict[str, NDArray[np.generic]] = {}
        self._go_back()

    @property
    def stages(self) -> Sequence[str]:
        """Names of the stages, by the values of the column `stage`."""
        return self._reader.stages

    @property
    def behind(self) -> int:
        """Bytes of the file that are not read yet."""
        return max(0, self._size() - self._at.offset)

    @property
    def events(self) -> list[Record]:
        """The records that are no updates, in order."""
        return self._events

    def update(self, most: int = BLOCK) -> bool:
        """Read what was appended to the file, at most about `most` bytes of it; whether anything changed."""
        with self._guard:
            changed = self._update(most)
            self.version += changed
            return changed

    def _update(self, most: int) -> bool:
        size = self._size()
        if size == self._at.offset and self._holds(self._at):
            return False
        changed = False
        if not self._holds(self._at):
            self._go_back()
            changed = True
        if self.error and size == self._failed_at:
            return changed
        self.error = ""
        end = self._at.offset + most
        while self._at.offset < end and not self.error and self._read_block():
            changed = True
            if self._recent_rows >= (_WHILE_BEHIND if self.behind else _IN_MEMORY):
                self._commit()
        self._failed_at = size
        return changed

    @property
    def rows(self) -> int:
        """Steps that are read."""
        return self._written.rows + self._recent_rows

    def column(self, name: str, last: int | None = None) -> NDArray[np.generic]:
        """One column: see COLUMNS, or a corpus's sequences; the array does not change later.

        Args:
            name: of the column.
            last: number of the newest steps to return; all by default.
        """
        with self._guard:
            return self.part(name, 0 if last is None else max(0, self.rows - last), self.rows)

    def part(self, name: str, first: int, end: int) -> NDArray[np.generic]:
        """Some rows of a column.

        Those on disk are copied, and the mapped pages released, so that one column at a time is in memory.
        """
        with self._guard:
            values, at = self._on_disk(name), self._written.rows
            found = [np.array(values[first:end])]
            mapping = cast("object", values.base)
            if found[0].nbytes > _RELEASED and isinstance(mapping, mmap.mmap) and _RELEASES:
                mapping.madvise(mmap.MADV_DONTNEED)
            for block in self._recent:
                values = block.columns[name]
                found.append(values[max(0, first - at) : max(0, end - at)])
                at += len(values)
            found = [values for values in found if len(values)] or found[:1]
            return found[0] if len(found) == 1 else np.concatenate(found)

    def place(self, name: str, value: int) -> int:
        """Rows whose value in an ascending column is at most `value`."""
        with self._guard:
            parts = [self._on_disk(name), *(block.columns[name] for block in self._recent)]
            return int(sum(np.searchsorted(values, value, side="right") for values in parts))

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Read nothing inside the block, so that all columns have the same steps."""
        with self._guard:
            yield

    def close(self) -> None:
        """Keep what is in memory, and let other processes write the folder."""
        with self._guard:
            if self._recent_rows:
                self._commit()
            self._mapped.clear()
            self._held.close()

    def _own(self, folder: Path) -> Path:
        """The folder, locked; or a temporary one."""
        with suppress(OSError):  # BlockingIOError among them
            folder.mkdir(exist_ok=True)
            if os.access(folder, os.W_OK):
                self._held.callback(FolderLock(folder).release)
                return folder
        return Path(self._held.enter_context(TemporaryDirectory(prefix="tinyllama-studio-")))

    def _read_state(self) -> ColumnsState | None:
        try:
            state = read_record(ColumnsState, self._folder / _STATE, ModelError, "it is written again")
        except (OSError, UserError):  # a copy is made again rather than repaired
            return None
        return state if state.corpora == self._corpora and self._is_whole(state) else None

    def _is_whole(self, state: ColumnsState) -> bool:
        """Whether the files have the sizes that the state says, at least."""
        last = state.marks[-1] if state.marks else _START
        wanted = {self._file(name): last.rows * np.dtype(kind).itemsize for name, kind in self._types.items()}
        wanted[self._folder / _EVENTS] = last.events
        return all(path.is_file() and path.stat().st_size >= size for path, size in wanted.items())

    def _file(self, name: str) -> Path:
        of_corpus = "" if name in COLUMNS else "corpus."
        return self._folder / f"{of_corpus}{name}.{self._types[name][1:]}"

    def _size(self) -> int:
        try:
            return self._metrics.stat().st_size
        except OSError:
            return 0

    def _holds(self, mark: Mark) -> bool:
        """Whether the file still has the line of a mark at its place."""
        if not mark.offset:
            return True
        try:
            with self._metrics.open("rb") as file:
                file.seek(mark.offset - mark.size)
                line = file.read(mark.size)
        except OSError:
            return False
        return hashlib.sha256(line).hexdigest() == mark.sha256

    def _go_back(self) -> None:
        """Return to the last mark that holds, and drop what follows it."""
        while self._marks and not self._holds(self._marks[-1]):
            self._marks.pop()
        self._at = self._written = self._marks[-1] if self._marks else _START
        self._recent: list[Block] = []
        self._failed_at = -1
        self.history = secrets.randbits(31)
        self._mapped.clear()
        lines: list[bytes] = []
        if self._written.events:
            with (self._folder / _EVENTS).open("rb") as file:
                lines = file.read(self._written.events).splitlines(keepends=True)
        self._events = [record for record, _ in parse_lines(lines, self._metrics)]

    @property
    def _recent_rows(self) -> int:
        return sum(len(block.columns["step"]) for block in self._recent)

    def _read_block(self) -> bool:
        """Read one block; whether there was a whole line."""
        data = b""
        with suppress(FileNotFoundError), self._metrics.open("rb") as file:
            file.seek(self._at.offset)
            data = file.read(BLOCK)
        data = data[: data.rfind(b"\n") + 1]
        if not data:
            return False
        block = self._reader.read(data, self._at.lines + 1)
        self.error = block.error
        if block.bytes:
            last = data[: block.bytes].rstrip(b"\n").rfind(b"\n") + 1
            line = data[last : block.bytes]
            self._at = Mark(
                offset=self._at.offset + block.bytes,
                lines=self._at.lines + block.lines,
                rows=self._at.rows + len(block.columns["step"]),
                events=self._at.events + sum(map(len, block.events)),
                size=len(line),
                sha256=hashlib.sha256(line).hexdigest(),
            )
            events = block.events
            if self._recent and len(self._recent[-1].columns["step"]) < _SMALL:
                block = joined(self._recent.pop(), block)
            self._recent.append(block)
            self._events = self._events + [record for record, _ in parse_lines(events, self._metrics)]
        return block.bytes > 0

    def _commit(self) -> None:
        """Append what is in memory to the files, then mark it; where that fails, it stays in memory."""
        with suppress(OSError):
            self._append()

    def _append(self) -> None:
        for name, kind in self._types.items():
            parts = [block.columns[name] for block in self._recent]
            _write(self._file(name), self._written.rows * np.dtype(kind).itemsize, (part.tobytes() for part in parts))
        events = (line for block in self._recent for line in block.events)
        _write(self._folder / _EVENTS, self._written.events, events)
        marks, stages = (*self._marks, self._at), tuple(self._reader.stages)
        write_record(self._folder / _STATE, ColumnsState(corpora=self._corpora, stages=stages, marks=marks))
        self._marks, self._written, self._recent = [*marks], self._at, []
        self._mapped.clear()

    def _on_disk(self, name: str) -> NDArray[np.generic]:
        rows = self._written.rows
        if name not in self._mapped:
            kind = self._types[name]
            self._mapped[name] = np.memmap(self._file(name), kind, "r", shape=(rows,)) if rows else np.empty(0, kind)
        return self._mapped[name]


def _write(path: Path, offset: int, parts: Iterator[bytes]) -> None:
    """Write at a place in a file, which is made if it is not there."""
    path.touch()
    with path.open("r+b") as file:
        file.seek(offset)
        for part in parts:
            file.write(part)
    fsync_path(path)
