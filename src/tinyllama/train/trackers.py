"""Services that show the metrics of a run: TensorBoard, Weights & Biases, Trackio and MLflow.

All of them draw by tokens, since stages differ in batch. Training that resumes continues the same run of a service.
"""

from __future__ import annotations

import sys
import time
from contextlib import redirect_stdout
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Protocol
from uuid import uuid4

from tinyllama.errors import TrainingError
from tinyllama.installation import install_hint
from tinyllama.record_files import FileRecord, read_record, write_record
from tinyllama.train.metrics import scalars
from tinyllama.train.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pydantic import JsonValue

    from tinyllama.recipe import Recipe
    from tinyllama.train.metrics import Logger, Record

_LAST_SECONDS = 60.0
"""That a service may take for what was recorded last."""
_PARAMETERS, _CHARACTERS = 100, 6000
"""Most parameters in one request to MLflow, and most characters of a parameter."""


class TrackerRuns(FileRecord):
    """`trackers.json`: which run of each service shows the model."""

    FORMAT: ClassVar[int] = 1

    format: int = FORMAT
    runs: dict[str, str]
    """Name of the service, as in the recipe → its name of the run."""


class _Tracker(Protocol):
    """A run of a service."""

    run: str
    """The service's name of it."""

    def log(self, record: Record) -> None:
        """Send a record's numbers."""

    def finish(self) -> None:
        """Send what is left."""


def open_trackers(recipe: Recipe, model: str, runs: Path) -> list[Logger]:
    """The services that the recipe names beside TensorBoard.

    Args:
        recipe: what they show as configuration.
        model: `base`, or the name of the variant or branch.
        runs: the file that keeps the services' names of the runs.

    Raises:
        TrainingError: a service's package is not installed, or the service refuses the run.
    """
    named = {key: name for key in _SERVICES if (name := getattr(recipe.logging, key)) is not None}
    if not named:
        return []
    known = _read_runs(runs)
    found: list[Logger] = []
    for key, project in named.items():
        tracker = _SERVICES[key](recipe, project, model, known.get(key))
        known[key] = tracker.run
        found.append(_Background(f"logging.{key}", tracker))
    write_record(runs, TrackerRuns(runs=known))
    return found


def _read_runs(path: Path) -> dict[str, str]:
    try:
        return dict(read_record(TrackerRuns, path, TrainingError, "delete it, and each service begins a new run").runs)
    except FileNotFoundError:
        return {}


class TensorBoardLogger:
    """Scalars by tokens seen."""

    def __init__(self, folder: Path, tokens: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=tokens + 1)

    def log(self, record: Record) -> None:
        """Write the record's numbers."""
        for name, value in scalars(record).items():
            self._writer.add_scalar(name, value, record.tokens)

    def flush(self) -> None:
        """Write out what is buffered."""
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class _Background:
    """Receives records for a service, which gets them in a thread: training neither waits for it nor ends by it."""

    def __init__(self, key: str, tracker: _Tracker) -> None:
        self._tracker, self._outbox = tracker, Outbox(key)

    def log(self, record: Record) -> None:
        """Have a record sent."""
        self._outbox.put(partial(self._tracker.log, record))

    def flush(self) -> None:
        """Do nothing: metrics.jsonl is the record."""

    def close(self) -> None:
        """Let the service have what is left, within its time."""
        self._outbox.put(self._tracker.finish)
        self._outbox.close(_LAST_SECONDS)


class WandbTracker:
    """A run in a Weights & Biases project; WANDB_MODE=offline keeps it on disk."""

    def __init__(self, recipe: Recipe, project: str, model: str, run: str | None) -> None:
        try:
            import wandb  # an extra
        except ImportError:
            raise TrainingError(f"logging.wandb needs an extra: {install_hint('wandb')}") from None
        self.run = run or uuid4().hex[:16]
        try:
            self._run = wandb.init(
                project=project,
                id=self.run,
                resume="allow",
                name=f"{recipe.name}-{model}",
                group=recipe.name,
                config=_config(recipe),
                # The last model's run may still send; and W&B records the command line, where a secret may stand.
                settings=wandb.Settings(reinit="create_new", x_disable_meta=_shows_receiver(sys.argv)),
            )
        except Exception as error:  # each service's client has errors of its own
            raise TrainingError(
                f"logging.wandb: {error}; run `wandb login`, or set WANDB_MODE=offline to keep the run on disk"
            ) from error
        self._run.define_metric("tokens", hidden=True)
        self._run.define_metric("*", step_metric="tokens")

    def log(self, record: Record) -> None:
        """Send the record's numbers."""
        self._run.log(scalars(record) | {"tokens": record.tokens})

    def finish(self) -> None:
        """Finish the run."""
        self._run.finish()


class TrackioTracker:
    """A run in a Trackio project, in the folder TRACKIO_DIR or on the server that Trackio's variables name."""

    def __init__(self, recipe: Recipe, project: str, model: str, run: str | None) -> None:
        try:
            import trackio  # an extra
        except ImportError:
            raise TrainingError(f"logging.trackio needs an extra: {install_hint('trackio')}") from None
        self.run = run or f"{recipe.name}-{model}-{uuid4().hex[:6]}"
        try:
            with redirect_stdout(sys.stderr):  # it prints messages
                # In a context of its own, where neither the next model's run nor Python's end finishes it again.
                self._run = copy_context().run(
                    trackio.init,
                    project,
                    name=self.run,
                    group=recipe.name,
                    config=_config(recipe),
                    resume="allow",
                    embed=False,
                )
        except Exception as error:
            raise TrainingError(f"logging.trackio: {error}; correct the project, or the TRACKIO_… variables") from error

    def log(self, record: Record) -> None:
        """Send the record's numbers."""
        self._run.log(scalars(record), step=record.tokens)

    def finish(self) -> None:
        """Finish the run."""
        with redirect_stdout(sys.stderr):
            self._run.finish()


class MlflowTracker:
    """A run in an MLflow experiment, on the server or in the database that MLFLOW_TRACKING_URI names."""

    def __init__(self, recipe: Recipe, experiment: str, model: str, run: str | None) -> None:
        try:
            from mlflow import MlflowClient  # an extra
        except ImportError:
            raise TrainingError(f"logging.mlflow needs an extra: {install_hint('mlflow')}") from None
        try:
            self._client = MlflowClient()
            known = self._client.get_experiment_by_name(experiment)
            owner = self._client.create_experiment(experiment) if known is None else known.experiment_id
            if run and self._client.search_runs([owner], f"attributes.run_id = '{run}'"):
                self.run = run
                self._client.update_run(run, status="RUNNING")
            else:
                self.run = self._begin(owner, recipe, model)
        except Exception as error:
            raise TrainingError(f"logging.mlflow: {error}; correct MLFLOW_TRACKING_URI, or the experiment") from error

    def log(self, record: Record) -> None:
        """Send the record's numbers, with tokens as MLflow's steps."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        numbers = [Metric(name, float(value), now, record.tokens) for name, value in scalars(record).items()]
        self._client.log_batch(self.run, metrics=numbers)

    def finish(self) -> None:
        """Finish the run."""
        self._client.set_terminated(self.run)

    def _begin(self, owner: str, recipe: Recipe, model: str) -> str:
        """Create a run with the recipe's keys as its parameters, which MLflow lets nobody change."""
        from mlflow.entities import Param

        run: str = self._client.create_run(owner, run_name=f"{recipe.name}-{model}").info.run_id
        keys = [Param(key, text[:_CHARACTERS]) for key, text in _flat(_config(recipe))]
        for first in range(0, len(keys), _PARAMETERS):
            self._client.log_batch(run, params=keys[first : first + _PARAMETERS])
        return run


_SERVICES: dict[str, Callable[[Recipe, str, str, str | None], _Tracker]] = {
    "wandb": WandbTracker,
    "trackio": TrackioTracker,
    "mlflow": MlflowTracker,
}
"""By the recipe's keys."""


def _config(recipe: Recipe) -> dict[str, JsonValue]:
    """The recipe, without the receiver of messages, which no dump has."""
    return recipe.model_dump(mode="json")


def _shows_receiver(words: list[str]) -> bool:
    """Whether a command line sets the receiver of messages."""
    return any("logging.notify" in word for word in words)


def _flat(value: JsonValue, key: str = "") -> Iterator[tuple[str, str]]:
    """The single values of nested ones, by dotted keys."""
    if isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(item, f"{key}.{name}" if key else str(name))
    else:
        yield key, str(value)
