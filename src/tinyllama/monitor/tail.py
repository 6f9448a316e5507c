"""The end of a metrics file that grows while it is read."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from tinyllama.train.metrics import is_header, parse_line

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from tinyllama.train.metrics import HeldOutRecord, OverflowRecord, Record, SpikeRecord, StepRecord

_BLOCK = 1 << 22
_RECENT = 50
"""Steps whose mean speed is shown."""
_SEAM = 128
"""Bytes before what was read last, by which a file that training has cut and written again is recognized."""
_STEP = b'{"kind": "step"'


class MetricsTail:
    """The last records of a run, and how many spikes there were; reads only what is new since the last look."""

    def __init__(self, path: Path) -> None:
        """Read nothing yet."""
        self._path = path
        self._forget()

    def _forget(self) -> None:
        self._read, self._seam = 0, b""
        self._steps = deque[bytes](maxlen=_RECENT)
        self.held_out: HeldOutRecord | None = None
        """The last measurement."""
        self.skipped: SpikeRecord | OverflowRecord | None = None
        """The last step whose update was skipped."""
        self.last_spike: SpikeRecord | None = None
        self.spikes = self.overflows = 0
        """Number of steps that were skipped as such."""

    def update(self) -> None:
        """Read what was written since the last look; all of it again if training has resumed from before that.

        Raises:
            TrainingError: a line is not a record.
            NewerFormatError: a later version wrote the file.
        """
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            self._forget()
            return
        with file:
            file.seek(self._read - len(self._seam))
            if file.read(len(self._seam)) != self._seam:
                self._forget()
                file.seek(0)
            self._follow(file)

    @property
    def steps(self) -> list[StepRecord]:
        """The last steps whose updates were made, oldest first."""
        records = [parse_line(line, str(self._path)) for line in self._steps]
        return [record for record in records if record.kind == "step"]

    def _follow(self, file: BinaryIO) -> None:
        """Read whole lines up to the end; a line that is being written waits for the next look."""
        rest = b""
        while block := file.read(_BLOCK):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                self._add(line)
            self._read += sum(map(len, lines)) + len(lines)
            if lines:
                self._seam = (lines[-1] + b"\n")[-_SEAM:]

    def _add(self, line: bytes) -> None:
        if line.startswith(_STEP):  # of a million of them, only the last are parsed
            self._steps.append(line)
        elif not is_header(line, self._path):
            self._keep(parse_line(line, str(self._path)))

    def _keep(self, record: Record) -> None:
        if record.kind == "held_out":
            self.held_out = record
        elif record.kind == "spike":
            self.spikes, self.last_spike, self.skipped = self.spikes + 1, record, record
        elif record.kind == "overflow":
            self.overflows, self.skipped = self.overflows + 1, record
