import os
from pathlib import Path

import pytest

from tinyllama.errors import UserError
from tinyllama.launch.slurm import seconds_of, submit


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [
        ("90", 5400),
        ("5:30", 330),
        ("8:00:00", 28800),
        ("2-12", 216000),
        ("2-12:30", 217800),
        ("1-00:00:01", 86401),
    ],
)
def test_a_limit_is_read_as_slurm_reads_it(limit: str, seconds: int) -> None:
    assert seconds_of(limit) == seconds


@pytest.mark.parametrize("limit", ["", "1h", "-5", "1-", "1:2:3:4", "2-1:2:3:4"])
def test_another_spelling_is_refused_with_an_example(limit: str) -> None:
    with pytest.raises(UserError, match="8:00:00"):
        seconds_of(limit)


def _sbatch(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a stand-in for sbatch before all else."""
    stand_in = folder / "sbatch"
    stand_in.write_text(f"#!/bin/sh\n{text}\n")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize("said", ["17", "17;east"])
def test_submitting_gives_the_number_whatever_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    _sbatch(tmp_path, f'test "$1 $2" = "--parsable /job" && echo "{said}"', monkeypatch)
    assert submit(Path("/job")) == "17"


def test_what_sbatch_says_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _sbatch(tmp_path, "echo invalid partition specified: x >&2; exit 1", monkeypatch)
    with pytest.raises(UserError, match="sbatch rejected /job: invalid partition specified: x"):
        submit(Path("/job"))


def test_a_machine_without_sbatch_is_told_what_to_do_with_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="run `sbatch /job` on a machine"):
        submit(Path("/job"))
