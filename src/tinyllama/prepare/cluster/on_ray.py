"""Preparation on a Ray cluster whose machines share the family's folder, by datatrove's executor."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

import ray
from datatrove.executor.ray import RayPipelineExecutor
from datatrove.utils.logging import logger

from tinyllama.errors import UserError
from tinyllama.prepare.cluster.steps import FindCopies, Pack, Tokenize, jobs_worth
from tinyllama.prepare.cluster.watching import new_launch, raise_recorded, watching

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tinyllama.prepare.cluster.steps import ClusterStep
    from tinyllama.prepare.job import Preparation
    from tinyllama.prepare.task import Counts


def prepare_on_ray(preparation: Preparation, workers: int | None, progress: Callable[[Counts], None]) -> None:
    """Do the missing parts of a preparation on the cluster of RAY_ADDRESS, or the one that runs here, or a new one.

    The jobs end with this process; finished parts are kept.

    Args:
        preparation: the preparation.
        workers: largest number of jobs at a time; None for as many as the cluster has room for.
        progress: called regularly with what was done.

    Raises:
        UserError: no cluster answers; also errors of jobs, see `run_task` and `Preparation.finish`.
        WorkerLostError: jobs were lost more often than Ray restarts them.
    """
    logger.disable("datatrove")  # it logs each step to stderr; the jobs' own logs are in the work folder
    logs, pending = new_launch(preparation.settings.work, "ray"), preparation.pending()
    with _connected(), watching(preparation, progress):
        _run(Tokenize(preparation, logs, pending), jobs_worth(preparation, pending, workers), workers)
        if preparation.settings.corpus.deduplicate is not None:
            _run(FindCopies(preparation, logs), 1, workers)
        shards = len(preparation.shards())
        _run(Pack(preparation, logs), min(shards, workers or shards), workers)
    preparation.finish()


def _run(step: ClusterStep, jobs: int, workers: int | None) -> None:
    """Run a step to its end; Ray restarts a job whose process is lost, three times at most."""
    if jobs:
        RayPipelineExecutor(
            [step], tasks=jobs, workers=min(jobs, workers or jobs), logging_dir=str(step.logs / step.name)
        ).run()
    raise_recorded(step.logs)


@contextmanager
def _connected() -> Iterator[None]:
    try:
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
    except ConnectionError as error:
        raise UserError(
            f"no Ray cluster answers ({error}); correct RAY_ADDRESS, or start one: ray start --head"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
