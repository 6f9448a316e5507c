"""Check training jobs and submit them to a Slurm cluster."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from tinyllama.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.recipe import Recipe

_EARLY = 60
"""Seconds by which Slurm may send a signal early."""
_DAYS = re.compile(r"(\d+)-(\d+)(?::(\d+))?(?::(\d+))?")
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+)")


def seconds_of(limit: str) -> int:
    """Seconds of a time limit in Slurm's notation: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S.

    Raises:
        UserError: the limit has a different format.
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


def check_job(  # noqa: PLR0913  # each describes the job
    recipe: Recipe, variant: str | None, ranks: int, per_node: int, *, time: str | None, notice: int
) -> None:
    """Reject a job that would fail hours later, after it leaves the queue.

    Args:
        recipe: the family's recipe.
        variant: the variant to train; None trains all.
        ranks: total number of ranks on all nodes.
        per_node: ranks per node.
        time: time limit of a job, in Slurm's notation.
        notice: seconds before the limit at which ranks save.

    Raises:
        UserError: the recipe has no such variant, or the time limit is too short for the notice.
        RecipeError: the recipe's sharding does not divide the ranks.
    """
    if variant is not None and variant not in recipe.models:
        raise UserError(f"{recipe.name} has no variant {variant!r}; it has {', '.join(recipe.models)}")
    recipe.hardware.sharded_over(ranks, per_node)
    if time is not None and seconds_of(time) <= notice + _EARLY:
        raise UserError(
            f"--time {time} leaves no time to train: the notice may come {notice} + {_EARLY} s before the limit; give "
            "a longer time or a shorter --notice"
        )


def submit(script: Path) -> str:
    """Hand a batch script to sbatch.

    Returns:
        The job's number.

    Raises:
        UserError: sbatch is not installed here, or rejects the script; the message quotes sbatch.
    """
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        raise UserError(
            f"sbatch is not installed here; run `sbatch {script}` on a machine that can submit jobs to Slurm"
        )
    done = subprocess.run([sbatch, "--parsable", str(script)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"sbatch rejected {script}: {done.stderr.strip()}; correct the options, see launch --help")
    return done.stdout.strip().partition(";")[0]  # on multi-cluster setups, the cluster name follows
