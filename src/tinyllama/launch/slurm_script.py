"""The batch script of a training job: runs torchrun on every node, saves before the time limit and requeues."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinyllama.errors import UserError
from tinyllama.layout import SCRIPT_MARK

if TYPE_CHECKING:
    from pathlib import Path

_APART = 120
"""Maximum seconds between the exits of the first and the last node."""
_TEMPLATE = """\
#!/bin/bash
{mark}; to resubmit: sbatch {script}
{directives}
set -e

# SIGUSR1 arrives {notice} s before the limit: the ranks receive it once, save and exit.
stopping= told= training=
tell() {{
  [ "$told" ] || [ -z "$training" ] || {{ told=yes; kill -USR1 "$training" || true; }}
}}
stop() {{
  stopping=yes
  tell
}}
trap stop USR1
{setup}
# The rendezvous is on the first node, which runs this script, on a port derived from the job's id.
first=$(hostname)
port=$((20000 + SLURM_JOB_ID % 10000))

[ -z "$stopping" ] || exec scontrol requeue "$SLURM_JOB_ID" # the setup took too long to start training

# One torchrun per node. If a rank dies, all restart from the last checkpoint. All nodes exit within {apart} s.
srun {srun} \\
  {python} -m torch.distributed.run \\
  --nnodes "$SLURM_NNODES" --nproc-per-node {ranks} --max-restarts {restarts} \\
  --rdzv-backend c10d --rdzv-endpoint "$first:$port" --rdzv-id "$SLURM_JOB_ID-${{SLURM_RESTART_COUNT:-0}}" \\
  --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --shutdown-timeout {notice} \\
  -m -- {command} &
training=$!
[ -z "$stopping" ] || tell # the signal came before there was anybody to tell
status=0
wait "$training" || status=$?
while kill -0 "$training" 2>/dev/null; do # the signal interrupted the wait, not the training
  status=0
  wait "$training" || status=$?
done

# Requeue a job that was stopped, so that it resumes; do not requeue one that finished or failed.
if [ "$stopping" ] && [ "$status" -ne 0 ]; then
  echo "job $SLURM_JOB_ID stopped before its limit; it resumes from its last checkpoint when it starts again"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
"""


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """A job's training command, and the resources that it requests."""

    name: str
    command: tuple[str, ...]
    """Command of each rank, e.g. ("tinyllama", "train", "nano")."""
    python: str
    directory: Path
    """Working directory of the command; absolute."""
    logs: Path
    """Folder for the job's output; absolute."""
    nodes: int
    ranks_per_node: int
    gpus_per_node: int
    cpus_per_node: int | None
    partition: str | None
    account: str | None
    time: str | None
    notice: int
    """Seconds before the limit at which ranks save and exit."""
    max_restarts: int
    directives: tuple[str, ...]
    """Additional options for sbatch, e.g. ("--mem=0",)."""
    setup: tuple[str, ...]
    """Shell lines to run first, on the first node."""

    def script(self, path: Path) -> str:
        """Text of the batch script that will be at `path`.

        Raises:
            UserError: a value that must be on one line contains a line break.
        """
        for line in (*self.directives, *self.setup):
            if "\n" in line:
                raise UserError(f"{line!r} contains a line break; pass each line as a separate option")
        # Since 22.05, srun does not inherit --cpus-per-task from sbatch, and would bind all ranks to one core.
        cpus = [] if self.cpus_per_node is None else [f"--cpus-per-task={self.cpus_per_node}"]
        return _TEMPLATE.format(
            mark=SCRIPT_MARK,
            script=shlex.quote(str(path)),
            directives="\n".join(f"#SBATCH {directive}" for directive in self._directives()),
            setup="".join(f"{line}\n" for line in self.setup),
            srun=" ".join([f"--kill-on-bad-exit=0 --wait={_APART}", *cpus]),
            apart=_APART,
            python=shlex.quote(self.python),
            ranks=self.ranks_per_node,
            restarts=self.max_restarts,
            notice=self.notice,
            command=shlex.join(self.command),
        )

    def _directives(self) -> list[str]:
        asked = {
            "job-name": self.name,
            "chdir": str(self.directory),
            "output": str(self.logs).replace("%", "%%") + "/%j.log",
            "open-mode": "append",
            "nodes": self.nodes,
            "ntasks-per-node": 1,
            "gres": f"gpu:{self.gpus_per_node}" if self.gpus_per_node else None,
            "cpus-per-task": self.cpus_per_node,
            "partition": self.partition,
            "account": self.account,
            "time": self.time,
            "signal": f"B:USR1@{self.notice}",
        }
        stated = [f"--{key}={shlex.quote(str(value))}" for key, value in asked.items() if value is not None]
        return [*stated, "--requeue", *self.directives]
