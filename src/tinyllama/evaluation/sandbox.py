"""Whether a program that nobody looked at comes to its end, found out without danger (see `jail`)."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import cache

from tinyllama.errors import EvaluationError
from tinyllama.evaluation import jail

_SETUP_SECONDS = 5
_OUTPUT_BYTES = 4096


@dataclass(frozen=True)
class Limits:
    """What a program may use."""

    seconds: int = 5
    memory: int = 512 << 20
    """Bytes of address space."""


def runs_to_its_end(program: str, limits: Limits = Limits()) -> bool:
    """Run a Python program alone, and tell whether it ended without an error within its limits.

    It sees the interpreter's standard library and an empty folder; no network, no environment, no other process.

    Raises:
        EvaluationError: this machine cannot shut a program in; says why.
    """
    if reason := unavailable():
        raise EvaluationError(reason)
    return _run(program, limits)[0]


@cache
def unavailable() -> str | None:
    """Why programs cannot be shut in on this machine; None if they can."""
    if sys.platform != "linux":
        return f"programs are run in Linux namespaces only, not on {sys.platform}; leave humaneval out"
    ended, message = _run("x = 1", Limits(seconds=10))
    if ended:
        return None
    return (
        f"programs cannot be shut in on this machine ({message or 'the sandbox did not start'}); allow user namespaces "
        "(sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces; in a container: --security-opt "
        "seccomp=unconfined), or leave humaneval out"
    )


def _run(program: str, limits: Limits) -> tuple[bool, str]:
    """Whether the program ended well, and what the sandbox itself had to say."""
    word = secrets.token_hex(16)
    process = subprocess.Popen(  # our own file
        [sys.executable, "-I", "-S", jail.__file__, str(limits.seconds), str(limits.memory), word],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd="/", env={}, start_new_session=True, close_fds=True,
    )  # fmt: skip
    try:
        out, messages = process.communicate(program.encode(errors="replace"), limits.seconds + _SETUP_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)  # its first child is told by the kernel, and takes all others with it
        process.communicate()
        return False, ""
    said = messages[-_OUTPUT_BYTES:].decode(errors="replace").strip() if process.returncode == jail.SETUP_FAILED else ""
    return out == word.encode(), said
