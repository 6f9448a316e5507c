"""Finds the Slurm jobs that work on a preparation."""

from __future__ import annotations

import hashlib
import subprocess
from typing import TYPE_CHECKING

from tinyllama.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

SLURM = "slurm"
"""Name of the folder of Slurm jobs' logs in the work folder."""


def job_name(work: Path) -> str:
    """The name of all jobs that work in a folder, and of no other jobs."""
    return f"tinyllama-{hashlib.sha256(str(work).encode()).hexdigest()[:12]}"


def running_jobs(work: Path) -> list[str]:
    """Ids of the waiting and running jobs, as squeue prints them.

    Raises:
        UserError: Slurm does not answer.
    """
    if not (work / SLURM).is_dir():
        return []
    command = ["squeue", "--noheader", "--me", f"--name={job_name(work)}", "--format=%i"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # a fixed command
    except FileNotFoundError:
        return []  # this machine has no Slurm; a task that two processes do at once is harmless
    except subprocess.CalledProcessError as error:
        raise UserError(
            f"squeue fails: {error.stderr.strip()}; running jobs continue: run the same command again later"
        ) from error
    return done.stdout.split()
