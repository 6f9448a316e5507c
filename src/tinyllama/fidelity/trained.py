"""How far a model is trained, and which of its steps changed no weights."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from tinyllama.checkpoint.store import CheckpointStore
from tinyllama.errors import CheckpointError
from tinyllama.fidelity.run import OpenRun
from tinyllama.train.metrics import lines_after, parse_line
from tinyllama.train.spikes import add_span

if TYPE_CHECKING:
    from tinyllama.checkpoint.state import CheckpointState, Span
    from tinyllama.train.metrics import Record

Update: TypeAlias = Literal["made", "skipped", "later"]
"""Whether the rows of a step changed the weights. An update is `skipped` as a loss spike, since fp16 gradients
overflowed, or since a rollback undid it; the step is `later` if it is not trained yet."""
_SKIPPED = b'"kind": "spike"', b'"kind": "overflow"'


class TrainedSteps(NamedTuple):
    """The steps of a model's path, its parents' among them, that were done."""

    last: int
    """0 before the first."""
    skipped: tuple[Span, ...]
    """Spans whose rows were fed, but whose updates were skipped or undone."""

    def update(self, step: int) -> Update:
        """What became of the update of a step, counted from 1."""
        if step > self.last:
            return "later"
        return "skipped" if any(first <= step <= last for first, last in self.skipped) else "made"


def skipped_span(record: Record) -> Span | None:
    """The steps whose updates a record says were skipped; None if it does not."""
    if record.kind == "spike":
        return record.skipped
    return (record.step, record.step) if record.kind == "overflow" else None


def trained_steps(run: OpenRun, until: int | None = None) -> TrainedSteps:
    """What metrics.jsonl and the checkpoints on this machine say; a URL of checkpoints is asked if both are missing.

    Args:
        run: the model's training.
        until: the last step that counts; of a parent, the fork. What the parent undid after it stays in the fork.

    Raises:
        TrainingError: a line of metrics.jsonl is not a record.
        StorageError: the URL cannot be reached.
    """
    metrics = run.layout.metrics(run.model)
    state = _newest_state(CheckpointStore(run.layout.checkpoints(run.model)), until)
    if state is None and not metrics.is_file():
        state = _newest_state(run.store, until)
    known = 0 if state is None else state.step
    last, lines = known, list[bytes]()
    for step, line in lines_after(metrics, known):
        if until is None or step <= until:
            last = max(last, step)
            lines += [line] * any(kind in line for kind in _SKIPPED)
    if state is not None:
        skipped = state.skipped
    elif run.first_step:
        before = trained_steps(OpenRun(run.recipe, run.layout, run.recipe.parent(run.model)), run.first_step)
        last, skipped = last or before.last, before.skipped
    else:
        skipped = ()
    for line in reversed(lines):
        if (span := skipped_span(parse_line(line, str(metrics)))) is not None:
            skipped = add_span(skipped, span)
    return TrainedSteps(last, skipped)


def _newest_state(store: CheckpointStore, until: int | None) -> CheckpointState | None:
    """The newest state that can be read, up to a step; that of a fork knows what was skipped before it."""
    for step in reversed(store.steps()):
        if until is None or step <= until:
            with suppress(CheckpointError):
                return store.state(step)
    return None
