"""Records of documents and files that could not be used, and why: nothing is dropped silently."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TextIO

_NAMED = 5
"""Reasons that a message lists."""

_EXCERPT = 120
"""Characters of an excerpt."""

Kind = Literal["damaged", "empty", "skipped", "repaired", "filtered", "contaminated", "duplicate"]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A document, file or part of a file that could not be used, or only after a repair."""

    origin: str
    reason: str
    """Why. Reasons are in a file of the corpus, so that another wording gives the same text another identity."""
    excerpt: str
    """The start of the content, for people."""
    kind: Kind = "damaged"
    """`damaged`: text was lost. `empty`: the document has no text. `skipped`: the file was not read. `repaired`: the
    document is in the corpus, with U+FFFD in place of lone halves of surrogate pairs. `filtered`, `contaminated`,
    `duplicate`: a key of the corpus dropped the document."""
    partner: str = ""
    """What it was dropped for: the question of a task, or the document that is kept in its place."""


Reject = Callable[[Rejected], None]


def excerpt(data: bytes | str) -> str:
    """The start of a content, for `Rejected`."""
    if isinstance(data, bytes):
        data = data[: 4 * _EXCERPT].decode(errors="replace")
    return data[:_EXCERPT].encode(errors="backslashreplace").decode()


class Reasons:
    """Counts rejected documents and files by reason, for a message."""

    def __init__(self) -> None:
        self._counts = Counter[str]()
        self._first: dict[str, str] = {}

    def __call__(self, rejected: Rejected) -> None:
        """Count one."""
        if rejected.kind != "repaired":
            self._counts[rejected.reason] += 1
            self._first.setdefault(rejected.reason, rejected.origin)

    def __str__(self) -> str:
        """A line for each of the most common reasons, with the first place that has it; begins with a line end."""
        lines = [
            f"\n  {self._first[reason]}: {reason}{f' (and {count - 1:,} more)' if count > 1 else ''}"
            for reason, count in self._counts.most_common(_NAMED)
        ]
        others = len(self._counts) - _NAMED
        return "".join(lines) + (f"\n  and {others:,} other reasons" if others > 0 else "")


class Quarantine:
    """Writes rejected documents and files to a file, one JSON line each, and counts them by kind."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.counts = Counter[str]()

    def __call__(self, rejected: Rejected) -> None:
        """Quarantine one."""
        entry = asdict(rejected)
        if not rejected.partner:
            del entry["partner"]  # which earlier versions did not write
        self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        self.counts[rejected.kind] += 1


def read_rejected(path: Path) -> Iterator[Rejected]:
    """The entries of a file that `Quarantine` wrote."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield Rejected(**json.loads(line))
