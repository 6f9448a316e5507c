"""Run untrusted programs in isolation (see `jail`), and find out whether they end without an error."""

from __future__ import annotations

import secrets
import subprocess
import sys
from dataclasses import dataclass
from functools import cache

from tinyllama.errors import EvaluationError
from tinyllama.evaluation import jail

_SETUP_SECONDS = 5
_OUTPUT_BYTES = 4096


@dataclass(frozen=True)
class SandboxLimits:
    """Resources that a program may use."""

    seconds: int = 5
    memory: int = 512 << 20
    """Bytes of address space."""


def runs_to_its_end(program: str, limits: SandboxLimits = SandboxLimits()) -> bool:
    """Run a Python program alone, and tell whether it ended without an error within its limits.

    The program sees the standard library and an empty folder: no network, no environment, no other process.

    Raises:
        EvaluationError: this machine cannot isolate a program; states why.
    """
    if reason := unavailable():
        raise EvaluationError(reason)
    return _run(program, limits)[0]


@cache
def unavailable() -> str | None:
    """Why programs cannot be isolated on this machine; None if they can."""
    if sys.platform != "linux":
        return f"programs run in Linux namespaces only, not on {sys.platform}; drop humaneval"
    ended, message = _run("x = 1", SandboxLimits(seconds=10))
    if ended:
        return None
    return (
        f"programs cannot be isolated on this machine ({message or 'the sandbox did not start'}); allow user "
        "namespaces (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces; in a container: "
        "--security-opt seccomp=unconfined), or drop humaneval"
    )


def _run(program: str, limits: SandboxLimits) -> tuple[bool, str]:
    """Whether the program ended without an error, and the sandbox's own messages."""
    word = secrets.token_hex(16)
    process = subprocess.Popen(  # our own file
        [sys.executable, "-I", "-S", jail.__file__, str(limits.seconds), str(limits.memory), word],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd="/", env={}, start_new_session=True, close_fds=True,
    )  # fmt: skip
    try:
        out, messages = process.communicate(program.encode(errors="replace"), limits.seconds + _SETUP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()  # the kernel then kills its first child, and with it the whole process namespace
        process.communicate()
        return False, ""
    said = messages[-_OUTPUT_BYTES:].decode(errors="replace").strip() if process.returncode == jail.SETUP_FAILED else ""
    return out == word.encode(), said
