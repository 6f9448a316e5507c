"""How far families and their models are, as the page shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyllama.monitor.status import State


@dataclass(frozen=True)
class SpikeSummary:
    """A skipped step."""

    step: int
    tokens: int
    text: str


@dataclass(frozen=True)
class CheckpointSummary:
    """A checkpoint on this machine."""

    step: int
    tokens: int | None
    """None where the metrics do not know the step."""


@dataclass(frozen=True)
class ModelSummary:
    """How far a model is."""

    name: str
    parent: str | None
    start_tokens: int
    """Where its own training begins: at its fork."""
    end_tokens: int
    state: State = "waiting"
    reason: str = ""
    """Of a model whose training was stopped or failed: what ended it."""
    step: int = 0
    tokens: int = 0
    stage: str = ""
    loss: float | None = None
    """Of the last update, in nats a token."""
    lr: float | None = None
    batch: int = 0
    """Tokens in the last step."""
    tokens_per_second: float | None = None
    """Over the last steps, checkpoints included."""
    mfu: float | None = None
    seconds_left: float | None = None
    checkpoints: list[CheckpointSummary] = field(default_factory=list)
    spikes: list[SpikeSummary] = field(default_factory=list)
    skipped: int = 0
    """Updates that were skipped as spikes or overflows."""
    version: int = 0
    """Rises with every change of its metrics."""
    history: int = 0
    """See `MetricColumns.history`."""
    behind: int = 0
    """Bytes of metrics.jsonl that are still to be read."""
    error: str = ""
    """Why its metrics are not read to their end."""


@dataclass(frozen=True)
class FamilyView:
    """A family as the page lists it."""

    id: str
    folder: str
    name: str = ""
    description: str = ""
    parameters: int = 0
    context: int = 0
    corpora: list[str] = field(default_factory=list)
    models: list[ModelSummary] = field(default_factory=list)
    stages: list[tuple[str, int, int]] = field(default_factory=list)
    """Name, and tokens at its begin and end."""
    seconds_left: float | None = None
    """For all models that are not done, at the present speed."""
    tree: str = ""
    """The family tree as HTML, as the report shows it."""
    error: str = ""
    """Why the family cannot be shown."""
