"""Metrics of a training run, in metrics.jsonl; `trackers.py` has the services that show them.

The first line of metrics.jsonl is a header with the format's number; each other line is one record. All fields but
`seconds`, `checkpoint_seconds`, `tokens_per_second`, `mfu`, `memory` and `chain` are deterministic. The last field of a
line is `chain`, a SHA-256 over the chain of the line before it and the line without the field, so that an edited or
dropped line is found. A variant's chain continues its base's at the fork, which the header then holds.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal, Protocol, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from tinyllama.errors import NewerFormatError, TrainingError
from tinyllama.record_files import first_problem, parse_object
from tinyllama.train.legacy import MFU, SKIPPED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

FORMAT = 2
"""Of metrics.jsonl; a file without a header is of format 1."""
_BLOCK = 1 << 16
_CHAIN = ', "chain": "'


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """A step whose update was made."""

    kind: Literal["step"] = "step"
    step: int
    """Counted from 1."""
    stage: str
    tokens: int
    """Seen after the step."""
    loss: float
    """Mean over the batch's predicted targets, in nats."""
    lr: float
    grad_norm: float
    """Global, before clipping."""
    batch: int
    """Sequences."""
    counts: dict[str, int]
    """Sequences of each corpus."""
    seconds: float
    """Of the step."""
    checkpoint_seconds: float
    """For which training stood still for a checkpoint before the step."""
    tokens_per_second: float
    mfu: Annotated[float, Field(validation_alias=MFU)]
    """Model FLOPs utilization: FLOP/s of the step over the measured peak of all ranks."""
    z_loss: float | None = None
    """Mean z-loss, in nats, which `loss` excludes; None without one."""
    digest: str = ""
    """Of the rows that all ranks were fed: see `corpus/digest.py`. Empty in records of earlier versions."""
    memory: int | None = None
    """The most bytes that the first rank has held so far, on its GPU or, without one, in its process; None if unknown,
    as in records of earlier versions."""


@dataclass(frozen=True, kw_only=True)
class HeldOutRecord:
    """A measurement on held-out rows."""

    kind: Literal["held_out"] = "held_out"
    step: int
    """After which it was made."""
    tokens: int
    """Seen by then."""
    losses: dict[str, float]
    """Corpus → mean loss, in nats a token."""
    context: int | None = None
    """Tokens of a held-out row; None in records of earlier versions, which had the model's own."""


@dataclass(frozen=True, kw_only=True)
class SpikeRecord:
    """A step that was skipped as a loss spike."""

    kind: Literal["spike"] = "spike"
    step: int
    stage: str
    tokens: int
    """Seen after the step, its own among them."""
    loss: float | None
    """None if it was not finite."""
    grad_norm: float | None
    """None if it was not finite."""
    threshold: float | None
    """The highest loss that was no spike; None while the window was not full."""
    policy: str
    """Of `spikes.policy`."""
    skipped: Annotated[tuple[int, int], Field(validation_alias=SKIPPED)]
    """First and last of the steps that are skipped: with a rollback, those since the last planned checkpoint."""
    rows: list[str]
    """`corpus:row` of each sequence of the step."""
    digest: str = ""
    """As a step's."""


@dataclass(frozen=True, kw_only=True)
class OverflowRecord:
    """A step that was skipped since its gradients overflowed in fp16; the loss scale was then halved."""

    kind: Literal["overflow"] = "overflow"
    step: int
    stage: str
    tokens: int
    """Seen after the step, its own among them."""
    scale: float
    """Of the step's loss."""
    counts: dict[str, int]
    """Sequences of each corpus."""
    digest: str = ""
    """As a step's."""


Record: TypeAlias = StepRecord | HeldOutRecord | SpikeRecord | OverflowRecord
_ADAPTER: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="kind")])


class Logger(Protocol):
    """Receives every record of a run."""

    def log(self, record: Record) -> None:
        """Receive one record."""

    def flush(self) -> None:
        """Make what was logged durable; called before each checkpoint."""

    def close(self) -> None:
        """No more records will come."""


class JsonlLogger:
    """Appends records to metrics.jsonl; resuming at a step drops the records after it."""

    def __init__(self, path: Path, step: int, head: str = "") -> None:
        """Open a file, or make one.

        Args:
            path: of the file.
            step: records after it are dropped.
            head: of the chain at the fork, which that of a file without records continues.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        with path.open("rb") as file:
            is_header(file.readline(), path)  # refuses a file of a later version
        last = _cut_after(path, step)
        self.head = split_chain(last)[1]
        """Of the chain over all lines; empty before the first, and after a line of an earlier version."""
        self._file = path.open("a", encoding="utf-8")
        if not last or is_header(last, path):
            self.head = head
            self._file.truncate(0)
            self._write(json.dumps({"kind": "header", "format": FORMAT}))

    def log(self, record: Record) -> None:
        """Append one line."""
        text = json.dumps(asdict(record))
        self.head = link(self.head, text)
        self._write(text)
        self._file.flush()

    def flush(self) -> None:
        """Bring the lines to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, text: str) -> None:
        """Write a line, with the chain's head if there is one."""
        line = f'{text[:-1]}{_CHAIN}{self.head}"}}' if self.head else text
        self._file.write(f"{line}\n")


def read_metrics(path: Path) -> Iterator[Record]:
    """Records of a metrics file, line by line; none if there is no file, and none for a line cut short by a crash.

    Raises:
        NewerFormatError: a later version wrote the file.
        TrainingError: a line is not a record; names file, line and key.
    """
    return (record for record, _ in read_lines(path))


def read_lines(path: Path) -> Iterator[tuple[Record, bytes]]:
    """The records of `read_metrics`, each with its line."""
    if path.is_file():
        with path.open("rb") as lines:
            yield from parse_lines(lines, path)


def parse_lines(lines: Iterable[bytes], path: Path, first: int = 1) -> Iterator[tuple[Record, bytes]]:
    """The records of some lines of a metrics file, each with its line; errors are those of `read_metrics`.

    Args:
        lines: of the file; one without its line end is skipped.
        path: of the file, for messages.
        first: number of the first of the lines, for messages.
    """
    for number, line in enumerate(lines, first):
        if line.endswith(b"\n") and not is_header(line, path):
            yield parse_line(line, f"{path}:{number}"), line


def chain_start(path: Path) -> str:
    """The head that a metrics file's chain continues, another model's at a fork; empty for none, or no file."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        line = file.readline()
    return split_chain(line)[1] if is_header(line, path) else ""


def chain_at(path: Path, step: int) -> str:
    """The head of a metrics file's chain after a step; empty without one, or if the step is not recorded."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        line = next((line for _, line in _lines_from_end(file) if _step(line, path) <= step), b"")
    return split_chain(line)[1] if line and _step(line, path) == step else ""


def link(head: str, text: str) -> str:
    """The chain's head after a line: hex SHA-256 of the head before it and the line's text without its chain."""
    return hashlib.sha256(f"{head}\n{text}".encode()).hexdigest()


def split_chain(line: bytes) -> tuple[str, str]:
    """A line's text without its chain, and the chain: empty if an earlier version wrote the line."""
    text, found, chain = line.decode(errors="replace").rstrip("\n").rpartition(_CHAIN)
    return (f"{text}}}", chain.removesuffix('"}')) if found else (chain, "")


def scalars(record: Record) -> dict[str, float]:
    """Numbers to draw, by the names of their curves."""
    if record.kind == "held_out":
        return {f"held_out/{name}": value for name, value in record.losses.items()}
    group = "train" if record.kind == "step" else record.kind
    numbers = {name: value for name, value in asdict(record).items() if isinstance(value, int | float)}
    return {f"{group}/{name}": value for name, value in numbers.items() if name not in {"step", "tokens"}}


def parse_line(line: bytes, where: str) -> Record:
    """The record in a line, which is no header.

    Raises:
        TrainingError: the line, found at `where`, is not a record; names the key.
    """
    try:
        return _ADAPTER.validate_json(line, strict=True)
    except ValidationError as error:
        problem = first_problem(error, inside=1)  # inside the kind
        raise TrainingError(f"{where}: {problem}; this line is not a training record, remove it") from error


def is_header(line: bytes, path: Path) -> bool:
    """Whether a line is a header, of a format that we read.

    Raises:
        NewerFormatError: a later version wrote the file.
    """
    if not line.startswith(b'{"kind": "header"'):
        return False
    number = parse_object(line, path, TrainingError, "remove its first line").get("format")
    if isinstance(number, int) and number > FORMAT:
        raise NewerFormatError(path, number, FORMAT)
    return True


def lines_after(path: Path, step: int) -> Iterator[tuple[int, bytes]]:
    """The lines of records after a step, newest first, each with its step; reads only the end of the file for them.

    Raises:
        NewerFormatError: a later version wrote the file.
        TrainingError: a line is not a record; names file and line.
    """
    if path.is_file():
        with path.open("rb") as file:
            is_header(file.readline(), path)
            for _, line in _lines_from_end(file):
                if (found := _step(line, path)) <= step:
                    return
                yield found, line


def _cut_after(path: Path, step: int) -> bytes:
    """Cut off records of later steps, and a line that a crash cut short; reads from the end, to be fast at any size.

    Returns:
        The line that is the last one then; empty if none is left.
    """
    with path.open("r+b") as file:
        for end, line in _lines_from_end(file):
            if _step(line, path) <= step:
                file.truncate(end)
                return line
        file.truncate(0)
    return b""


def _lines_from_end(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The whole lines of a file, last first, each with the position of its end."""
    start, read = file.seek(0, os.SEEK_END), b""
    while start:
        block = min(_BLOCK, start)
        start = file.seek(start - block)
        read = file.read(block) + read
        end = read.rfind(b"\n") + 1
        while end:
            begin = read.rfind(b"\n", 0, end - 1) + 1
            if start and not begin:  # the line may begin in the block before
                break
            yield start + end, read[begin:end]
            end = begin
        read = read[:end]


def _step(line: bytes, path: Path) -> int:
    """The step of a record; 0 for the header, which has none."""
    try:
        return int(json.loads(line).get("step", 0))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise TrainingError(f"{path}: {line[:60]!r} is not a training record ({error}); remove the line") from error
