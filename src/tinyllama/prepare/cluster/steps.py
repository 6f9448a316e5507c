"""The stages of a preparation as steps of a datatrove pipeline.

A pipeline runs once for each of `world_size` jobs; a job does every `world_size`-th of the parts. Which job does what,
when, how often and where changes nothing in what comes out.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from datatrove.pipeline.base import PipelineStep

from tinyllama.prepare.assembly import write_shard
from tinyllama.prepare.cluster.watching import recorded
from tinyllama.prepare.workers import open_worker_engine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tinyllama.prepare.job import Preparation

_JOB_BYTES = 1_000_000_000
"""Of source files, for a job: a minute or two on one core, since to start one takes seconds."""


def jobs_worth(preparation: Preparation, tasks: Sequence[int], workers: int | None) -> int:
    """How many jobs to divide tasks into: enough for all workers, none without a task."""
    size = sum(preparation.tasks[index].size for index in tasks)
    return min(len(tasks), max(workers or 1, 1 + size // _JOB_BYTES))


class Stage(PipelineStep):  # type: ignore[misc]  # datatrove ships no types
    """A step that reads no documents of another and passes none on."""

    type = "TinyLlama"

    def __init__(self, preparation: Preparation, logs: Path) -> None:
        """Make the step.

        Args:
            preparation: what to do.
            logs: folder of this launch; errors of ours are recorded there.
        """
        super().__init__()
        self.preparation, self.logs = preparation, logs

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Any]:  # noqa: ANN401  # datatrove's
        """Do the part of one job."""
        with recorded(self.logs, f"{self.name}-{rank:05d}"), self.track_time(self.name):
            self.work(rank, world_size)
        yield from data or ()

    @abstractmethod
    def work(self, rank: int, world_size: int) -> None:
        """Do the part of one job."""


class Tokenize(Stage):
    """Documents → token ids: tasks that were not done at the launch."""

    name = "tasks"

    def __init__(self, preparation: Preparation, logs: Path, pending: Sequence[int]) -> None:
        """Make the step; `pending` are indices of tasks."""
        super().__init__(preparation, logs)
        self.pending = pending

    def work(self, rank: int, world_size: int) -> None:
        """Do every `world_size`-th task."""
        engine = open_worker_engine(self.preparation)
        for index in self.pending[rank::world_size]:
            self.preparation.run(index, engine)


class Pack(Stage):
    """Token ids of all tasks → shards."""

    name = "shards"

    def work(self, rank: int, world_size: int) -> None:
        """Write every `world_size`-th shard."""
        for arguments in self.preparation.shards()[rank::world_size]:
            write_shard(*arguments)


class Finish(Stage):
    """Shards → the corpus; one job."""

    name = "corpus"

    def work(self, rank: int, world_size: int) -> None:  # noqa: ARG002  # one job
        """Write the rest, and the manifest last."""
        self.preparation.finish()
