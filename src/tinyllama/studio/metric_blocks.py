"""Blocks of whole lines of metrics.jsonl as columns; large ones by pyarrow, ten times as fast as line by line."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from tinyllama.errors import TrainingError
from tinyllama.train.metrics import parse_lines

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pyarrow as pa
    from numpy.typing import NDArray

    from tinyllama.train.metrics import OverflowRecord, Record, SpikeRecord, StepRecord

KINDS = ("step", "spike", "overflow")
"""Of the steps: updated, or skipped for a reason. A skipped step has no loss."""
FLOATS = ("loss", "lr", "grad_norm", "seconds", "checkpoint_seconds", "tokens_per_second", "mfu", "memory")
_OPTIONAL = {"memory"}
"""Those that a step may lack."""
COLUMNS: Final = {
    "kind": "<i1",
    "stage": "<i2",
    "step": "<i4",
    "batch": "<i4",
    "tokens": "<i8",
    **dict.fromkeys(FLOATS, "<f4"),
}
"""Column → type; a row is a step. Besides, each corpus has a column of its sequences."""
SEQUENCES = "<i4"
_LARGE = 1 << 18
"""Bytes from which pyarrow is faster, its import included."""
_STEP = b'{"kind": "step"'


@dataclass
class Block:
    """What some lines hold."""

    columns: dict[str, NDArray[np.generic]]
    """By the names of COLUMNS, and of the corpora."""
    events: list[bytes]
    """The lines that are no updates: held-out losses, spikes, overflows."""
    bytes: int
    """Of the lines that were read: all, or those before the first that is no record."""
    lines: int
    error: str = ""
    """What is wrong with the line after them."""


def joined(first: Block, second: Block) -> Block:
    """Two blocks that follow each other as one."""
    return Block(
        {name: np.concatenate([values, second.columns[name]]) for name, values in first.columns.items()},
        first.events + second.events,
        first.bytes + second.bytes,
        first.lines + second.lines,
        second.error,
    )


@dataclass
class BlockReader:
    """Reads blocks of one file."""

    path: Path
    corpora: Sequence[str]
    stages: list[str] = field(default_factory=list)
    """Those that were met; the column `stage` holds indices into them."""

    def read(self, block: bytes, first: int) -> Block:
        """The columns of some whole lines.

        Args:
            block: the lines.
            first: number of the first line in the file, for messages.

        Raises:
            NewerFormatError: a later version wrote the file.
        """
        lines = block.splitlines(keepends=True)
        if len(block) >= _LARGE and (found := self._by_arrow(lines, first)) is not None:
            return found
        return self._by_line(lines, first)

    def _by_line(self, lines: list[bytes], first: int) -> Block:
        records: list[Record] = []
        found = Block({}, [], 0, 0)
        for number, line in enumerate(lines, first):
            try:
                records += [record for record, _ in parse_lines([line], self.path, number)]
            except TrainingError as error:
                found.error = str(error)
                break
            found.bytes, found.lines = found.bytes + len(line), found.lines + 1
            if records and records[-1].kind != "step" and not line.startswith(_STEP):
                found.events.append(line)
        rows = [self._row(record) for record in records if record.kind != "held_out"]
        types = COLUMNS | dict.fromkeys(self.corpora, SEQUENCES)
        found.columns = {name: np.array([row.get(name, 0) for row in rows], kind) for name, kind in types.items()}
        return found

    def _row(self, record: StepRecord | SpikeRecord | OverflowRecord) -> dict[str, float]:
        counts = record.counts if record.kind != "spike" else Counter(row.rpartition(":")[0] for row in record.rows)
        row: dict[str, float] = {name: counts.get(name, 0) for name in self.corpora}
        row |= {"kind": KINDS.index(record.kind), "stage": self._stage(record.stage), "step": record.step}
        row |= {"tokens": record.tokens, "batch": sum(counts.values())}
        if record.kind != "step":
            return row | dict.fromkeys(FLOATS, np.nan)
        return row | {name: getattr(record, name) for name in (*FLOATS, "batch")}

    def _stage(self, name: str) -> int:
        if name not in self.stages:
            self.stages.append(name)
        return self.stages.index(name)

    def _by_arrow(self, lines: list[bytes], first: int) -> Block | None:
        """The same from a large block; None if a line needs the reader that names it."""
        import pyarrow as pa
        from pyarrow import json

        steps = [line for line in lines if line.startswith(_STEP)]
        others = self._by_line([line for line in lines if not line.startswith(_STEP)], first)
        if others.error or not steps:
            return None
        floats = [(name, pa.float64()) for name in FLOATS]
        counts = pa.struct([(name, pa.int64()) for name in self.corpora])
        whole = [(name, pa.int64()) for name in ("step", "batch", "tokens")]
        schema = pa.schema([*floats, *whole, ("stage", pa.string()), ("counts", counts)])
        options = json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        try:
            # The system's memory, since pyarrow's own pool keeps what it freed.
            data, pool = pa.BufferReader(b"".join(steps)), pa.system_memory_pool()
            table = json.read_json(data, parse_options=options, memory_pool=pool)
        except pa.ArrowInvalid:
            return None
        if table.num_rows != len(steps) or any(
            table[name].null_count for name in schema.names if name not in _OPTIONAL
        ):
            return None
        read = self._columns(table)
        columns = {name: np.concatenate([read[name], others.columns[name]]) for name in read}
        order = np.argsort(columns["step"], kind="stable")
        columns = {name: values[order] for name, values in columns.items()}
        return Block(columns, others.events, sum(map(len, lines)), len(lines))

    def _columns(self, table: pa.Table) -> dict[str, NDArray[np.generic]]:
        stages = table["stage"].combine_chunks().dictionary_encode()
        indices = np.array([self._stage(name) for name in stages.dictionary.to_pylist()])
        counts = table["counts"].combine_chunks()
        found = {name: table[name].to_numpy() for name in (*FLOATS, "step", "batch", "tokens")}
        found |= {"kind": np.zeros(len(stages)), "stage": indices[stages.indices.to_numpy()]}
        found |= {name: counts.field(name).fill_null(0).to_numpy(zero_copy_only=False) for name in self.corpora}
        return {name: values.astype(COLUMNS.get(name, SEQUENCES)) for name, values in found.items()}
