"""Metrics of a run: metrics.jsonl (the record), TensorBoard and Weights & Biases (views of it).

A line is {"kind": "step", …}, {"kind": "held_out", …}, or {"kind": "spike", …} for a step that was left out and, where
`left_out` reaches further back, undid those before it. All fields but `seconds`, `checkpoint_seconds`
(that training stood still for a checkpoint before the step), `tokens_per_second` and `utilisation` are deterministic.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Protocol

from tinyllama.errors import TrainingError
from tinyllama.installation import install_hint

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.recipe import Recipe

Record = dict[str, Any]
_BLOCK = 1 << 16


class Logger(Protocol):
    """Receives every record of a run."""

    def log(self, record: Record) -> None:
        """Take one record."""

    def flush(self) -> None:
        """Make what was logged durable; called before each checkpoint."""

    def close(self) -> None:
        """No more records will come."""


class JsonlLogger:
    """Appends records to metrics.jsonl; starting again at a step drops what came after it."""

    def __init__(self, path: Path, step: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        _cut_after(path, step)
        self._file = path.open("a", encoding="utf-8")

    def log(self, record: Record) -> None:
        """Append one line."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def flush(self) -> None:
        """Bring the lines to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoardLogger:
    """Scalars by tokens seen."""

    def __init__(self, folder: Path, tokens: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=tokens + 1)

    def log(self, record: Record) -> None:
        """Write the record's numbers."""
        for name, value in _scalars(record).items():
            self._writer.add_scalar(name, value, record["tokens"])

    def flush(self) -> None:
        """Write out what is buffered."""
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class WandbLogger:
    """A run in a Weights & Biases project."""

    def __init__(self, recipe: Recipe, project: str, name: str) -> None:
        try:
            import wandb  # an extra
        except ImportError:
            raise TrainingError(f"logging.wandb needs an extra: {install_hint('wandb')}") from None
        config = recipe.model_dump(mode="json")
        self._run = wandb.init(project=project, name=f"{recipe.name}-{name}", config=config, resume="allow")

    def log(self, record: Record) -> None:
        """Send the record's numbers."""
        self._run.log(_scalars(record) | {"tokens": record["tokens"]})

    def flush(self) -> None:
        """Nothing to do: wandb sends in the background."""

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


def _cut_after(path: Path, step: int) -> None:
    """Cut off records of later steps, and a line that a crash cut short; reads from the end, to be fast at any size."""
    with path.open("r+b") as file:
        start, lines = file.seek(0, os.SEEK_END), b""
        while start:
            block = min(_BLOCK, start)
            start = file.seek(start - block)
            lines = file.read(block) + lines
            # The first line is whole only if the file begins with it.
            end = lines.rfind(b"\n") + 1
            while end:
                begin = lines.rfind(b"\n", 0, end - 1) + 1
                if (begin or not start) and json.loads(lines[begin:end])["step"] <= step:
                    file.truncate(start + end)
                    return
                end = begin
        file.truncate(0)


def read_metrics(path: Path) -> list[Record]:
    """All complete lines of a metrics file; a line cut short by a crash is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


def _scalars(record: Record) -> dict[str, float]:
    if record["kind"] == "held_out":
        return {f"held_out/{name}": value for name, value in record["losses"].items()}
    numbers = {k: v for k, v in record.items() if isinstance(v, int | float) and k not in {"step", "tokens"}}
    group = "train" if record["kind"] == "step" else record["kind"]
    return {f"{group}/{name}": value for name, value in numbers.items()}
