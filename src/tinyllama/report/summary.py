"""The figures of a family: the only writer and the only reader of summary.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from tinyllama.errors import ModelError
from tinyllama.evaluation.scores import StoredTasks, TaskScores
from tinyllama.files import write_json
from tinyllama.record_files import parse_record, read_object

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import JsonValue

    from tinyllama.files import Json

_REMEDY = "run `tinyllama report` again"


@dataclass(frozen=True)
class FamilySummary:
    """The results of a family. Mappings are by model unless stated otherwise."""

    FORMAT: ClassVar[int] = 2
    """Files of format 1 have no such number but the same keys."""

    recipe: str = ""
    description: str = ""
    parameters: int = 0
    """Number of weights in one model."""
    models: list[str] = field(default_factory=list)
    """Trained models."""
    corpora: list[str] = field(default_factory=list)
    """Prepared corpora."""
    missing: dict[str, str] = field(default_factory=dict)
    """Corpus → reason why its source is unavailable."""
    bits_per_byte: dict[str, dict[str, float]] = field(default_factory=dict)
    """Model → corpus → bits per byte of held-out text."""
    bits_per_byte_by_source: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    """Model → corpus that has several sources → source → bits per byte of its held-out text."""
    tasks: dict[str, TaskScores] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    """Tokens seen in training."""
    fingerprints: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    """Phase → seconds spent."""
    exports: dict[str, str] = field(default_factory=dict)
    """Export folder, relative to the family's folder."""
    versions: dict[str, str] = field(default_factory=dict)
    """Library → version."""
    machine: dict[str, str | int | float] = field(default_factory=dict)
    """Processor, cores, memory and platform."""

    def to_json(self) -> dict[str, Json]:
        """The content of summary.json."""
        tasks = {model: scores.to_json() for model, scores in self.tasks.items()}
        return {"format": self.FORMAT} | asdict(replace(self, tasks={})) | {"tasks": tasks}


def write_summary(path: Path, summary: FamilySummary) -> None:
    """Write summary.json atomically."""
    write_json(path, summary.to_json())


def read_summary(path: Path) -> FamilySummary:
    """Read summary.json.

    Raises:
        FileNotFoundError: the file does not exist.
        ModelError: the file cannot be read, has a newer format, or has a wrong key; the message names file and key.
    """
    data = read_object(path, ModelError, _REMEDY)
    tasks: dict[str, JsonValue] = {"tasks": data.pop("tasks", {})}
    scores = parse_record(_Tasks, tasks, path, ModelError, _REMEDY).tasks
    summary = parse_record(FamilySummary, data, path, ModelError, _REMEDY)
    return replace(summary, tasks={model: TaskScores(found) for model, found in scores.items()})


@dataclass(frozen=True)
class _Tasks:
    """`tasks` of a summary."""

    tasks: dict[str, StoredTasks]
