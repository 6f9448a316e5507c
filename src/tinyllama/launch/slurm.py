"""What is asked of a Slurm cluster: how long a limit is, and to take a job."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from tinyllama.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

_DAYS = re.compile(r"(\d+)-(\d+)(?::(\d+))?(?::(\d+))?")
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+)")


def seconds_of(limit: str) -> int:
    """Seconds of a time limit as Slurm spells it: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S.

    Raises:
        UserError: it is spelled otherwise.
    """
    if limit.isdecimal():
        return 60 * int(limit)
    if (found := _CLOCK.fullmatch(limit)) is not None:
        hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return 3600 * hours + 60 * minutes + seconds
    if (found := _DAYS.fullmatch(limit)) is not None:
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return 86400 * days + 3600 * hours + 60 * minutes + seconds
    raise UserError(f"a time limit of {limit!r} is not one of Slurm's; write e.g. 90 (minutes), 8:00:00 or 2-12:00:00")


def submit(script: Path) -> str:
    """Hand a batch script to sbatch.

    Returns:
        The job's number.

    Raises:
        UserError: there is no sbatch here, or it refuses the script; tells what it said.
    """
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        raise UserError(
            f"sbatch is not here, so this is no machine from which Slurm takes jobs; run `sbatch {script}` on one"
        )
    done = subprocess.run(  # noqa: S603  # Slurm's own command
        [sbatch, "--parsable", str(script)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"sbatch refuses {script}: {done.stderr.strip()}")
    return done.stdout.strip().partition(";")[0]  # of several clusters, the name of this one follows
