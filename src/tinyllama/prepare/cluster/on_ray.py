"""Preparing on a Ray cluster whose machines share the family's folder, by datatrove's executor."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

import ray
from datatrove.executor.ray import RayPipelineExecutor
from datatrove.utils.logging import logger

from tinyllama.errors import UserError
from tinyllama.prepare.cluster.steps import Pack, Tokenize, jobs_worth
from tinyllama.prepare.cluster.watching import new_launch, raise_recorded, watching

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tinyllama.prepare.cluster.steps import Stage
    from tinyllama.prepare.job import Preparation
    from tinyllama.prepare.task import Counts


def prepare_on_ray(preparation: Preparation, workers: int | None, progress: Callable[[Counts], None]) -> None:
    """Do what is missing of a preparation on the cluster of RAY_ADDRESS, or the one that runs here, or a new one.

    The jobs end with this process; what they finished is kept.

    Args:
        preparation: what to do.
        workers: jobs at a time at most; None: as many as the cluster has room for.
        progress: told from time to time what was done.

    Raises:
        UserError: no cluster answers, and what a job met, see `run_task` and `Preparation.finish`.
        WorkerLostError: jobs were lost more often than Ray starts them again.
    """
    logger.disable("datatrove")  # it tells each step on stderr; the jobs' own logs are in the work folder
    logs, pending = new_launch(preparation.settings.work, "ray"), preparation.pending()
    with _connected(), watching(preparation, progress):
        _run(Tokenize(preparation, logs, pending), jobs_worth(preparation, pending, workers), workers)
        shards = len(preparation.shards())
        _run(Pack(preparation, logs), min(shards, workers or shards), workers)
    preparation.finish()


def _run(stage: Stage, jobs: int, workers: int | None) -> None:
    """Run a stage to its end; a job whose process is lost is started again, three times at most."""
    if jobs:
        RayPipelineExecutor(
            [stage], tasks=jobs, workers=min(jobs, workers or jobs), logging_dir=str(stage.logs / stage.name)
        ).run()
    raise_recorded(stage.logs)


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
