"""What the engines that prepare text have in common: the job they get, and what they report of it."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Job:
    """Text to turn into token ids."""

    text: Path
    """A folder of .jsonl.zst files with a field `text`."""
    tokenizer: Path
    """A folder with tokenizer.model and tokenizer.json."""
    out: Path
    """What is made goes here; it is not there yet."""
    workers: int
    exact: bool = False
    """Have the ids of every document compared with SentencePiece's, where the engine can."""
    copies: bool = True
    """Keep near-copies of documents. False: drop them, by MinHash."""

    @classmethod
    def given(cls) -> Job:
        """The one that this process was started for: its argument, in JSON."""
        given: dict[str, Any] = json.loads(sys.argv[1])
        return cls(**given | {name: Path(given[name]) for name in ("text", "tokenizer", "out")})

    @property
    def files(self) -> list[Path]:
        """Of the text."""
        return sorted(self.text.iterdir())


@contextmanager
def timed(report: dict[str, Any]) -> Iterator[None]:
    """Note the wall-clock seconds of a block in a report."""
    began = time.perf_counter()
    yield
    report["seconds"] = time.perf_counter() - began


def print_report(report: dict[str, Any]) -> None:
    """Tell the benchmark: the last line of the output is the report."""
    sys.stdout.write(f"\n{json.dumps(report)}\n")
