"""The batch script, run by bash with stand-ins for Slurm's commands; tests/cluster runs it on a real Slurm."""

import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tinyllama.errors import UserError
from tinyllama.launch.slurm_script import TrainingJob

SRUN = """\
trap 'echo told >> told; [ "$TOLD" = "" ] || exit "$TOLD"' USR1
printf '%s\\n' "$@" > srun
[ "$ENDS" = "" ] || exit "$ENDS"
while true; do sleep 0.05; done
"""
"""Ends with $ENDS at once, or with $TOLD once it is signalled."""


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    return TrainingJob(
        name="nano",
        command=("tinyllama", "train", "nano", "--set", "description='two words' & $HOME"),
        python="/an env/bin/python",
        directory=tmp_path,
        logs=tmp_path / "100% logs",
        nodes=2,
        ranks_per_node=4,
        gpus_per_node=4,
        cpus_per_node=None,
        partition=None,
        account=None,
        time=None,
        notice=120,
        max_restarts=3,
        directives=(),
        setup=(),
    )


def _begin(job: TrainingJob, folder: Path, **variables: str) -> subprocess.Popen[bytes]:
    """Run the script as slurmd does; what Slurm's commands were told is in files of `folder`."""
    for name, text in {"srun": SRUN, "scontrol": 'echo "$@" > scontrol'}.items():
        stand_in = folder / "bin" / name
        stand_in.parent.mkdir(exist_ok=True)
        stand_in.write_text(f"#!/bin/bash\n{text}\n")
        stand_in.chmod(0o755)
    script = folder / "script"
    script.write_text(job.script(script))
    given = {"SLURM_JOB_ID": "12345", "SLURM_NNODES": "2", "PATH": f"{folder}/bin{os.pathsep}{os.environ['PATH']}"}
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            ["/bin/bash", script], cwd=folder, env={**given, **variables}, stdout=log, start_new_session=True
        )


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_torchrun_is_told_everything_word_by_word(job: TrainingJob, tmp_path: Path) -> None:
    assert _begin(job, tmp_path, ENDS="0", SLURM_RESTART_COUNT="2").wait() == 0
    words = (tmp_path / "srun").read_text().splitlines()
    python = words.index("/an env/bin/python")
    assert words[python + 1 : python + 3] == ["-m", "torch.distributed.run"]
    options = dict(zip(words[python + 3 : -7 : 2], words[python + 4 : -7 : 2], strict=True))
    assert options["--nnodes"] == "2"
    assert options["--nproc-per-node"] == "4"
    assert options["--max-restarts"] == "3"
    assert options["--rdzv-endpoint"].endswith(":22345")
    assert options["--rdzv-id"] == "12345-2"
    assert "SIGUSR1" in options["--signals-to-handle"].split(",")
    assert words[-7:] == ["-m", "--", *job.command]


@pytest.mark.parametrize(
    ("ends", "told", "status"),
    [("0", "", 0), ("1", "", 1), ("", "1", 1), ("", "0", 0)],
    ids=["finished", "failed", "stopped by the notice", "finished as the notice came"],
)
def test_only_what_was_stopped_is_queued_again(
    job: TrainingJob, tmp_path: Path, ends: str, told: str, status: int
) -> None:
    batch = _begin(job, tmp_path, ENDS=ends, TOLD=told)
    if told:
        _wait_for(tmp_path / "srun")
        batch.send_signal(signal.SIGUSR1)
    assert batch.wait(30) == status
    assert (tmp_path / "told").exists() == bool(told)
    requeued = (tmp_path / "scontrol").read_text() if (tmp_path / "scontrol").exists() else None
    assert requeued == ("requeue 12345\n" if told == "1" else None)


def test_a_job_that_takes_its_time_to_save_is_told_once_and_waited_for(job: TrainingJob, tmp_path: Path) -> None:
    batch = _begin(job, tmp_path)
    _wait_for(tmp_path / "srun")
    try:
        batch.send_signal(signal.SIGUSR1)
        _wait_for(tmp_path / "told")
        batch.send_signal(signal.SIGUSR1)
        time.sleep(0.5)
        assert (tmp_path / "told").read_text() == "told\n"
        assert batch.poll() is None
    finally:
        os.killpg(batch.pid, signal.SIGKILL)
        batch.wait()


def test_a_notice_during_the_set_up_is_not_lost(job: TrainingJob, tmp_path: Path) -> None:
    batch = _begin(replace(job, setup=("touch begun", "until [ -e go ]; do sleep 0.02; done")), tmp_path)
    _wait_for(tmp_path / "begun")
    batch.send_signal(signal.SIGUSR1)
    (tmp_path / "go").touch()
    assert batch.wait(30) == 0
    assert (tmp_path / "scontrol").read_text() == "requeue 12345\n"
    assert not (tmp_path / "srun").exists()


def test_set_up_lines_run_first_and_their_failure_is_the_jobs(job: TrainingJob, tmp_path: Path) -> None:
    batch = _begin(replace(job, setup=("export ENDS=0", "echo ready > ready")), tmp_path)
    assert batch.wait(30) == 0
    assert (tmp_path / "ready").exists()
    assert _begin(replace(job, setup=("false",)), tmp_path, ENDS="0").wait(30) == 1


def test_what_is_asked_of_the_cluster_stands_at_the_top(job: TrainingJob, tmp_path: Path) -> None:
    asked = replace(
        job, cpus_per_node=32, partition="gpu", account="lab", time="1-00:00:00", directives=("--mem=0", "--qos=high")
    )
    script = asked.script(tmp_path / "script").splitlines()
    directives = [line.removeprefix("#SBATCH ") for line in script if line.startswith("#SBATCH ")]
    assert set(directives) >= {
        "--nodes=2", "--ntasks-per-node=1", "--gres=gpu:4", "--cpus-per-task=32", "--partition=gpu", "--account=lab",
        "--time=1-00:00:00", "--signal=B:USR1@120", "--requeue", "--open-mode=append", "--mem=0", "--qos=high",
        f"--output='{tmp_path}/100%% logs/%j.log'",
    }  # fmt: skip
    assert any(line.startswith("srun ") and "--cpus-per-task=32" in line for line in script)
    plain = job.script(tmp_path / "script")
    assert not any(word in plain for word in ("--partition", "--account", "--time", "--cpus-per-task", "None"))
    assert "--gres" not in replace(job, gpus_per_node=0).script(tmp_path / "script")


def test_an_option_that_would_break_a_line_is_refused(job: TrainingJob, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="contains a line break"):
        replace(job, directives=("--mem=0\nrm -r x",)).script(tmp_path / "script")
