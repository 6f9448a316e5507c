import os
import subprocess
from pathlib import Path

import pytest

from tests.command import run

ASK = ("--nodes", "2", "--gpus-per-node", "4", "--time", "8:00:00")
SUBMITTED = '#!/bin/sh\ncat "$2" > submitted\necho 42\n'


def _on_a_cluster(folder: Path) -> dict[str, str]:
    """An environment whose sbatch keeps what it is given."""
    stand_in = folder / "bin/sbatch"
    stand_in.parent.mkdir()
    stand_in.write_text(SUBMITTED)
    stand_in.chmod(0o755)
    return {"PATH": f"{stand_in.parent}{os.pathsep}{os.environ['PATH']}"}


def test_a_dry_run_prints_the_script_and_does_nothing(tmp_path: Path) -> None:
    asked = ["--setup", "module load cuda", "--sbatch", "mem=0", "--sbatch=--qos=high", "--variant", "math_code"]
    done = run("launch", "nano", *ASK, *asked, "--set", "seed=2", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
    assert subprocess.run(["/bin/bash", "-n"], input=done.stdout, text=True, check=False).returncode == 0
    lines = done.stdout.splitlines()
    assert {"module load cuda", "#SBATCH --mem=0", "#SBATCH --qos=high", "#SBATCH --job-name=nano-math_code"} <= {
        *lines
    }
    assert "tinyllama train nano --variant math_code --set seed=2 &" in done.stdout


def test_the_script_is_kept_in_the_familys_folder_and_submitted(tmp_path: Path) -> None:
    done = run("launch", "nano", *ASK, "--run", "my family", cwd=tmp_path, **_on_a_cluster(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "42\n"
    assert "not prepared: prose, code, arithmetic, chinese" in done.stderr
    assert "tinyllama prepare nano --run 'my family'" in done.stderr
    script = (tmp_path / "my family/slurm/nano.sbatch").read_text()
    assert script == (tmp_path / "submitted").read_text()
    assert f"#SBATCH --output='{tmp_path}/my family/slurm/%j.log'" in script


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([*ASK, "--variant", "x"], "no variant 'x'"),
        ([*ASK, "--set", "hardware.shard=3"], "do not divide 8 ranks"),
        ([*ASK, "--set", "logging.notify=https://host/token"], "the job's script would show the URL"),
        (["--time", "3", "--notice", "120"], "leaves no time to train"),
        ([*ASK], "sbatch is not installed here"),
    ],
)
def test_what_would_fail_hours_later_is_refused_now(tmp_path: Path, options: list[str], message: str) -> None:
    done = run("launch", "nano", *options, cwd=tmp_path, PATH=str(tmp_path))
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""
