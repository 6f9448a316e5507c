"""The figures of a family: summary.json, its one writer and its one reader."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from tinyllama.errors import ModelError
from tinyllama.evaluation.scores import MissingTask, TaskScore, TaskScores
from tinyllama.files import write_json

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 2
"""Format 1, which had no such number, had the same keys."""


@dataclass(frozen=True)
class FamilySummary:
    """What a family came to. All mappings are by model unless they say otherwise."""

    recipe: str = ""
    description: str = ""
    parameters: int = 0
    """Weights of one model."""
    models: list[str] = field(default_factory=list)
    """Those that are trained."""
    corpora: list[str] = field(default_factory=list)
    """Those that are prepared."""
    missing: dict[str, str] = field(default_factory=dict)
    """Corpus → why its source is unavailable."""
    bits_per_byte: dict[str, dict[str, float]] = field(default_factory=dict)
    """Model → corpus → bits per byte of held-out text."""
    tasks: dict[str, TaskScores] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    """Seen in training."""
    fingerprints: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    """Phase → time spent."""
    exports: dict[str, str] = field(default_factory=dict)
    """Folder, relative to the family's."""
    versions: dict[str, str] = field(default_factory=dict)
    """Library → version."""
    machine: dict[str, str | int | float] = field(default_factory=dict)
    """Processor, cores, memory and platform."""

    def to_json(self) -> dict[str, object]:  # what json.dumps takes
        """What summary.json holds."""
        tasks = {model: scores.to_json() for model, scores in self.tasks.items()}
        return {"format": FORMAT} | asdict(replace(self, tasks={})) | {"tasks": tasks}


def write_summary(path: Path, summary: FamilySummary) -> None:
    """Write summary.json; it is complete or not there."""
    write_json(path, summary.to_json())


def read_summary(path: Path) -> FamilySummary:
    """Read summary.json.

    Raises:
        FileNotFoundError: it is not there.
        ModelError: it cannot be read, is of a newer format, or a key is wrong; names file and key.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read: {error}; run `tinyllama report` again") from error
    if not isinstance(data, dict):
        raise ModelError(f"{path}: holds a {type(data).__name__}, not an object; run `tinyllama report` again")
    if (written := data.pop("format", 1)) not in {1, FORMAT}:
        raise ModelError(f"{path}: format {written} is newer than this version reads; update tinyllama")
    tasks = data.pop("tasks", {})
    try:
        scores = _TASKS.validate_python({model: _without_average(found) for model, found in tasks.items()})
        summary = _SUMMARY.validate_python(data)
    except (ValidationError, AttributeError) as error:
        raise ModelError(f"{path}: {_explain(error)}; run `tinyllama report` again") from error
    return replace(summary, tasks={model: TaskScores(found) for model, found in scores.items()})


def _without_average(tasks: dict[str, object]) -> dict[str, object]:  # JSON, which the adapter checks
    """The average follows from the tasks."""
    return {name: result for name, result in tasks.items() if name != "average"}


def _explain(error: ValidationError | AttributeError) -> str:
    if isinstance(error, AttributeError):
        return "tasks: is not an object"
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


_SUMMARY = TypeAdapter(FamilySummary)
_TASKS = TypeAdapter(dict[str, dict[str, TaskScore | MissingTask]])
