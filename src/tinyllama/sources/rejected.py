"""Records of documents and files that could not be used, and why: nothing is dropped silently."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from typing import TextIO

Kind = Literal["damaged", "empty", "skipped", "repaired"]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A document, file or part of a file that could not be used, or only after a repair."""

    origin: str
    reason: str
    excerpt: str
    """The start of the content, for people."""
    kind: Kind = "damaged"
    """`damaged`: text was lost. `empty`: the document has no text. `skipped`: the file was not read. `repaired`: the
    document is in the corpus, with U+FFFD in place of lone halves of surrogate pairs."""


Reject = Callable[[Rejected], None]


class Quarantine:
    """Writes rejected documents and files to a file, one JSON line each, and counts them by kind."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.counts = Counter[str]()

    def __call__(self, rejected: Rejected) -> None:
        """Quarantine one."""
        self._file.write(json.dumps(asdict(rejected), ensure_ascii=False) + "\n")
        self.counts[rejected.kind] += 1
