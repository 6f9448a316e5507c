"""What could not be used of a source, and why; nothing is dropped in silence."""

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
    """A document, file or part of a file that could not be used, or not as it stood."""

    origin: str
    reason: str
    excerpt: str
    """The start of what was found there, for people."""
    kind: Kind = "damaged"
    """`damaged`: text was lost. `empty`: there is none. `skipped`: a file that was not read. `repaired`: the
    document was kept, with U+FFFD in place of what is no character."""


Reject = Callable[[Rejected], None]


class Quarantine:
    """Writes what was rejected to a file, a JSON line each, and counts it by kind."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.counts = Counter[str]()

    def __call__(self, rejected: Rejected) -> None:
        """Keep one aside."""
        self._file.write(json.dumps(asdict(rejected), ensure_ascii=False) + "\n")
        self.counts[rejected.kind] += 1
