"""A preparation as steps of a datatrove pipeline.

A pipeline runs once for each of `world_size` jobs; a job does every `world_size`-th part. The result does not depend on
which job does which part, when, where, or how often.
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
"""Bytes of source files for one job: a minute or two on one core, since starting a job takes seconds."""


def jobs_worth(preparation: Preparation, tasks: Sequence[int], workers: int | None) -> int:
    """Number of jobs to divide tasks into: enough for all workers, none without a task."""
    size = sum(preparation.tasks[index].size for index in tasks)
    return min(len(tasks), max(workers or 1, 1 + size // _JOB_BYTES))


class ClusterStep(PipelineStep):  # type: ignore[misc]  # datatrove ships no types
    """A step that neither reads documents from another step nor passes any on."""

    type = "TinyLlama"

    def __init__(self, preparation: Preparation, logs: Path) -> None:
        """Make the step.

        Args:
            preparation: the preparation.
            logs: folder of this launch, where errors of jobs are recorded.
        """
        super().__init__()
        self.preparation, self.logs = preparation, logs

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Any]:  # noqa: ANN401  # the signature of datatrove's PipelineStep
        """Do the share of one job."""
        with recorded(self.logs, f"{self.name}-{rank:05d}"), self.track_time(self.name):
            self.work(rank, world_size)
        yield from data or ()

    @abstractmethod
    def work(self, rank: int, world_size: int) -> None:
        """Do the share of one job."""


class Tokenize(ClusterStep):
    """Documents → token ids: the tasks that were not finished at the launch."""

    name = "tasks"

    def __init__(self, preparation: Preparation, logs: Path, pending: Sequence[int]) -> None:
        """Make the step; `pending` are the indices of its tasks."""
        super().__init__(preparation, logs)
        self.pending = pending

    def work(self, rank: int, world_size: int) -> None:
        """Do every `world_size`-th task."""
        engine = open_worker_engine(self.preparation)
        for index in self.pending[rank::world_size]:
            self.preparation.run(index, engine)


class FindCopies(ClusterStep):
    """The signatures of all tasks → the copies of documents, by one job; nothing where copies are kept."""

    name = "copies"

    def work(self, rank: int, world_size: int) -> None:  # noqa: ARG002  # there is one job, so one share
        """Find the copies."""
        self.preparation.find_copies()


class Pack(ClusterStep):
    """The token ids of all tasks → shards."""

    name = "shards"

    def work(self, rank: int, world_size: int) -> None:
        """Write every `world_size`-th shard."""
        for arguments in self.preparation.shards()[rank::world_size]:
            write_shard(*arguments)


class Finish(ClusterStep):
    """Shards → the corpus, by one job."""

    name = "corpus"

    def work(self, rank: int, world_size: int) -> None:  # noqa: ARG002  # there is one job, so one share
        """Write the remaining files, and last the manifest."""
        self.preparation.finish()
