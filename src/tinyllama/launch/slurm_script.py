"""The batch script of a training job: torchrun on every node, which saves before the limit and queues again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinyllama.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

_APART = 120
"""Seconds that nodes may end apart, whether they have saved or failed."""
_TEMPLATE = """\
#!/bin/bash
# Written by `tinyllama launch`; to submit it again: sbatch {script}
{directives}
set -e

# SIGUSR1 comes {notice} s before the limit: the ranks receive it once, save and end.
stopping= training=
stop() {{
  [ "$stopping" ] || [ -z "$training" ] || kill -USR1 "$training" || true
  stopping=yes
}}
trap stop USR1
{setup}
# The nodes meet at the first one, which runs this script, on a port of the job's own.
first=$(hostname)
port=$((20000 + SLURM_JOB_ID % 10000))

[ -z "$stopping" ] || exec scontrol requeue "$SLURM_JOB_ID" # the set-up took too long to begin

# One torchrun a node. Where a rank dies, all start again from the last checkpoint. Nodes end within {apart} s.
srun {srun} \\
  {python} -m torch.distributed.run \\
  --nnodes "$SLURM_NNODES" --nproc-per-node {ranks} --max-restarts {restarts} \\
  --rdzv-backend c10d --rdzv-endpoint "$first:$port" --rdzv-id "$SLURM_JOB_ID-${{SLURM_RESTART_COUNT:-0}}" \\
  --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --shutdown-timeout {notice} \\
  -m -- {command} &
training=$!
status=0
wait "$training" || status=$?
while kill -0 "$training" 2>/dev/null; do # the signal ended the wait, not the training
  status=0
  wait "$training" || status=$?
done

# A job that was stopped is queued again and resumes; one that has finished or failed is not.
if [ "$stopping" ] && [ "$status" -ne 0 ]; then
  echo "job $SLURM_JOB_ID stopped before its limit; it resumes from its last checkpoint when it starts again"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
"""


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """What a job trains, and what it asks of the cluster."""

    name: str
    command: tuple[str, ...]
    """That each rank runs, e.g. ("tinyllama", "train", "nano")."""
    python: str
    directory: Path
    """Where the command runs; absolute."""
    logs: Path
    """Folder of the job's output; absolute."""
    nodes: int
    ranks_per_node: int
    gpus_per_node: int
    cpus_per_node: int | None
    partition: str | None
    account: str | None
    time: str | None
    notice: int
    """Seconds before the limit at which ranks save and end."""
    max_restarts: int
    directives: tuple[str, ...]
    """Further options of sbatch, e.g. ("--mem=0",)."""
    setup: tuple[str, ...]
    """Lines of shell that run before, on the first node."""

    def script(self, path: Path) -> str:
        """The batch script, to be written to `path`.

        Raises:
            UserError: a line of its own would break in two.
        """
        for line in (*self.directives, *self.setup):
            if "\n" in line:
                raise UserError(f"{line!r}: give each line on its own")
        # Since 22.05, srun does not take --cpus-per-task over from sbatch, and would bind all ranks to one core.
        cpus = [] if self.cpus_per_node is None else [f"--cpus-per-task={self.cpus_per_node}"]
        return _TEMPLATE.format(
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
