"""Which Slurm jobs work on a preparation."""

from __future__ import annotations

import hashlib
import subprocess
from typing import TYPE_CHECKING

from tinyllama.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

SLURM = "slurm"
"""Folder in the work folder, of the logs of Slurm jobs."""


def job_name(work: Path) -> str:
    """The name of all jobs that work in a folder, and of no others."""
    return f"tinyllama-{hashlib.sha256(str(work).encode()).hexdigest()[:12]}"


def running_jobs(work: Path) -> list[str]:
    """Ids of the jobs that wait or run, as squeue prints them.

    Raises:
        UserError: Slurm does not answer.
    """
    if not (work / SLURM).is_dir():
        return []
    command = ["squeue", "--noheader", "--me", f"--name={job_name(work)}", "--format=%i"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # a fixed command
    except FileNotFoundError:
        return []  # on a machine that does not know Slurm nobody can tell; to do a task twice at once harms nothing
    except subprocess.CalledProcessError as error:
        raise UserError(
            f"squeue fails: {error.stderr.strip()}; jobs that are running go on: run the same command again later"
        ) from error
    return done.stdout.split()
