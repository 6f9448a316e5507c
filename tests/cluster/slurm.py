"""A real Slurm on this machine alone, of Debian's packages, in a folder; needs root.

Packages: munge, slurmctld, slurmd, slurm-client. Every node is a slurmd of its own, so a job of two nodes really is
one, but for its one machine.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_START = 60.0
"""Seconds in which the daemons must be ready."""
_STOP = 30.0
_SEARCHED = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
"""Daemons are where a user's PATH need not lead."""


@contextmanager
def local_slurm(folder: Path, nodes: int = 2, cpus: int = 4) -> Iterator[dict[str, str]]:
    """Run munged, slurmctld and a slurmd for each node while entered.

    Args:
        folder: of keys, sockets, states and logs; its path must be short enough for a socket (about 90 letters).
        nodes: how many, named node1, node2, …
        cpus: that each claims to have, whatever the machine has.

    Yields:
        The environment in which sbatch, squeue and the others speak to it.

    Raises:
        RuntimeError: a daemon ended, or was not ready in time; tells what it said last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "slurm.conf"
    configuration.write_text(_configuration(folder, nodes, cpus), encoding="utf-8")
    environment = {**os.environ, "PATH": _SEARCHED, "SLURM_CONF": str(configuration)}
    with ExitStack() as running:
        munged = running.enter_context(_daemon(folder, environment, "munged", *_munge_options(folder)))
        _wait_until((folder / "munge.socket").exists, [munged], folder)
        daemons = [munged, running.enter_context(_daemon(folder, environment, "slurmctld", "-D"))]
        daemons += [
            running.enter_context(_daemon(folder, environment, "slurmd", "-D", "-N", name, log=name))
            for name in _node_names(nodes)
        ]
        _wait_until(lambda: _states(environment) == ["idle"] * nodes, daemons, folder)
        running.callback(_cancel_all, environment)
        yield environment


def ask(environment: dict[str, str], *command: str) -> str:
    """What one of Slurm's commands prints.

    Raises:
        RuntimeError: it failed; tells what it said.
    """
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout.strip()


def _configuration(folder: Path, nodes: int, cpus: int) -> str:
    name = socket.gethostname()
    ports = _free_ports(nodes + 1)
    lines = [
        "ClusterName=test",
        f"SlurmctldHost={name}(127.0.0.1)",
        f"SlurmctldPort={ports[0]}",
        "SlurmUser=root",
        # A job that is requeued waits until its old credential has expired, 120 s by default.
        f"AuthInfo=socket={folder}/munge.socket,cred_expire=15",
        "CredType=cred/munge",
        "MpiDefault=none",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core",
        "SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2",
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/%n",
        f"SlurmctldPidFile={folder}/slurmctld.pid",
        f"SlurmdPidFile={folder}/%n.pid",
        "SlurmdParameters=config_overrides",
        "ReturnToService=2",
        "MessageTimeout=60",
    ]
    for node, port in zip(_node_names(nodes), ports[1:], strict=True):
        lines.append(f"NodeName={node} NodeHostname={name} NodeAddr=127.0.0.1 Port={port} CPUs={cpus}")
    lines.append("PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP")
    return "\n".join(lines) + "\n"


def _node_names(nodes: int) -> list[str]:
    return [f"node{number}" for number in range(1, nodes + 1)]


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _munge_options(folder: Path) -> list[str]:
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(1024))
    files = {"key-file": key, "socket": folder / "munge.socket", "pid-file": folder / "munged.pid"}
    # A temporary folder may be closed to others, which munged refuses unless forced: they have no business here.
    return [
        "--foreground",
        "--force",
        f"--seed-file={folder}/munged.seed",
        *(f"--{name}={path}" for name, path in files.items()),
    ]


@contextmanager
def _daemon(
    folder: Path, environment: dict[str, str], name: str, *options: str, log: str | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    program = shutil.which(name, path=_SEARCHED)
    if program is None:
        raise RuntimeError(f"{name} is not installed: apt-get install munge slurmctld slurmd slurm-client")
    with (folder / f"{log or name}.log").open("wb") as output:
        process = subprocess.Popen([program, *options], env=environment, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until(ready: Callable[[], bool], daemons: list[subprocess.Popen[bytes]], folder: Path) -> None:
    deadline = time.monotonic() + _START
    while not ready():
        if time.monotonic() > deadline or any(daemon.poll() is not None for daemon in daemons):
            last = {path.name: path.read_text(errors="replace")[-1000:] for path in sorted(folder.glob("*.log"))}
            raise RuntimeError(f"Slurm did not start: {last}")
        time.sleep(0.2)


def _states(environment: dict[str, str]) -> list[str]:
    try:
        return ask(environment, "sinfo", "--noheader", "--Node", "--format=%t").split()
    except RuntimeError:
        return []  # slurmctld does not answer yet


def _cancel_all(environment: dict[str, str]) -> None:
    """Jobs outlive the daemons otherwise."""
    deadline = time.monotonic() + _STOP
    ask(environment, "scancel", "--user=root")
    while ask(environment, "squeue", "--noheader") and time.monotonic() < deadline:
        time.sleep(0.5)
