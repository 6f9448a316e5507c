"""Preparation on a Slurm cluster whose machines share the family's folder, by datatrove's executor."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datatrove.executor.slurm import SlurmPipelineExecutor
from datatrove.utils.logging import logger

from tinyllama.errors import UserError, WorkerLostError
from tinyllama.prepare.cluster.queue import SLURM, job_name, running_jobs
from tinyllama.prepare.cluster.steps import FindCopies, Finish, Pack, Tokenize, jobs_worth
from tinyllama.prepare.cluster.watching import last_launch, new_launch, raise_recorded, watching
from tinyllama.prepare.job import present_corpus

if TYPE_CHECKING:
    from collections.abc import Callable

    from tinyllama.prepare.cluster.steps import ClusterStep
    from tinyllama.prepare.job import Preparation
    from tinyllama.prepare.task import Counts

_SECONDS = 5.0
"""Seconds between two queries of the queue."""
_VISIBLE = 60.0
"""Seconds within which a shared folder shows files that another machine wrote."""


class _Executor(SlurmPipelineExecutor):  # type: ignore[misc]  # datatrove ships no types
    """Datatrove's executor without its own defaults: partition, time limit, and a job that merges statistics."""

    def get_sbatch_args(self, max_array: int = 1) -> dict[str, Any]:  # datatrove's signature
        """Options for sbatch."""
        return {key: value for key, value in super().get_sbatch_args(max_array).items() if value is not None}

    def launch_merge_stats(self) -> None:
        """Submit no such job."""


def prepare_on_slurm(
    preparation: Preparation,
    workers: int | None,
    progress: Callable[[Counts], None],
    sbatch: dict[str, str],
    say: Callable[[str], None],
) -> None:
    """Submit jobs for the missing parts of a preparation, unless they are submitted already, and wait for them.

    The jobs continue when this process ends; the same call waits for them again.

    Args:
        preparation: the preparation.
        workers: largest number of jobs at a time; None for as many as there is work for.
        progress: called regularly with what was done.
        sbatch: options for sbatch, long names without dashes → value ("" for a flag).
        say: receives a message that names the jobs.

    Raises:
        UserError: Slurm refuses or does not answer; also errors of jobs, see `run_task` and `Preparation.finish`.
        WorkerLostError: the jobs ended before the corpus was complete.
    """
    work, name = preparation.settings.work, preparation.settings.name
    if not (jobs := running_jobs(work)):
        _submit(preparation, workers, sbatch)
        jobs = running_jobs(work)
    say(f"corpus {name}: Slurm jobs {', '.join(jobs)}; they continue when this command is stopped")
    with watching(preparation, progress):
        while running_jobs(work):
            time.sleep(_SECONDS)
    logs, deadline = last_launch(work, SLURM), time.monotonic() + _VISIBLE
    while present_corpus(preparation.folder, preparation.request) is None:
        raise_recorded(logs)
        if time.monotonic() > deadline:
            raise WorkerLostError(
                f"corpus {name}: its jobs ended before it was complete, see {logs}; run the same command again, "
                "which does the missing parts"
            )
        time.sleep(1)


def _submit(preparation: Preparation, workers: int | None, sbatch: dict[str, str]) -> None:
    """Submit the steps, each of which starts when the one before it has succeeded."""
    logger.disable("datatrove")  # it logs each step to stderr
    logs, pending = new_launch(preparation.settings.work, SLURM), preparation.pending()
    after = {"kill-on-invalid-dep": "yes"} | sbatch
    # The number of shards is not known yet; a job without a shard ends at once.
    packing = jobs_worth(preparation, range(len(preparation.tasks)), workers)
    tasks = _executor(Tokenize(preparation, logs, pending), jobs_worth(preparation, pending, workers), workers, sbatch)
    if preparation.settings.corpus.deduplicate is not None:
        tasks = _executor(FindCopies(preparation, logs), 1, workers, after, tasks)
    shards = _executor(Pack(preparation, logs), packing, workers, after, tasks)
    try:
        _executor(Finish(preparation, logs), 1, workers, after, shards).launch_job()
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename} is not installed here; run the command where Slurm jobs are submitted"
        ) from None
    except subprocess.CalledProcessError as error:
        raise UserError(f"{error.cmd[0]} refuses the job, for the reason above; see --sbatch KEY=VALUE") from error


def _executor(
    step: ClusterStep, jobs: int, workers: int | None, sbatch: dict[str, str], depends: _Executor | None = None
) -> _Executor:
    programs = shlex.quote(str(Path(sys.executable).parent))
    return _Executor(
        [step],
        tasks=jobs,
        workers=workers or -1,
        time=None,
        partition=None,
        qos=None,
        job_name=job_name(step.preparation.settings.work),
        env_command=f"export PATH={programs}:$PATH",
        sbatch_args=sbatch,
        depends=depends,
        logging_dir=str(step.logs / step.name),
    )
