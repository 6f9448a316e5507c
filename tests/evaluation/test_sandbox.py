"""Hostile programs, all contained; as root where the tests run as root, and as a user."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from secrets import token_hex
from threading import Event, Thread
from types import SimpleNamespace

import pytest

import tinyllama
from tinyllama.errors import EvaluationError
from tinyllama.evaluation import jail, sandbox
from tinyllama.evaluation.sandbox import SandboxLimits, runs_to_its_end

LIMITS = SandboxLimits(seconds=2, memory=256 << 20)
needs_sandbox = pytest.mark.skipif(sandbox.unavailable() is not None, reason=str(sandbox.unavailable()))

HOSTILE = {
    "fork bomb": "import os\nwhile True: os.fork()",
    "threads": "import threading\nthreading.Thread(target=print).start()",
    "infinite loop": "while True: pass",
    "ignoring signals": "import signal\nfor s in (2, 15, 24): signal.signal(s, signal.SIG_IGN)\nwhile True: pass",
    "endless output": "while True: print('x' * 9999)",
    "memory hog": "x = [bytearray(1 << 28) for _ in range(9)]",
    "file deletion": "import os\nos.remove('/usr/bin/env')",
    "folder deletion": "import shutil\nshutil.rmtree('/usr')",
    "disk filling": "f = open('x', 'wb')\nfor _ in range(99): f.write(b'x' * (1 << 20)); f.flush()",
    "network": "import socket\nsocket.create_connection(('127.0.0.1', PORT), 1)",
    "name lookup": "import socket\nsocket.getaddrinfo('localhost', 80)",
    "raw socket": "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
    "reading the environment": "import os\nprint(os.environ['SECRET'])",
    "reading files": "open('/etc/passwd')",
    "reading processes": "open('/proc/1/environ')",
    "other namespaces": "import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0",
    "mounting": "import ctypes\nassert ctypes.CDLL(None).mount(b'x', b'/box', b'tmpfs', 0, None) == 0",
    "becoming root": "import os\nos.setuid(0)",
    "killing": "import os\nos.kill(1, 0) if os.getpid() != 1 else os.kill(OUTSIDE, 9)",
    "leaving early": "import os\nos._exit(0)",
    "leaving politely": "import sys\nsys.exit(0)",
    "wrong": "assert 1 == 2",
    "no program": "def",
}


@needs_sandbox
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_program_is_contained(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "word")
    listener = socket.create_server(("127.0.0.1", 0))
    program = HOSTILE[name].replace("PORT", str(listener.getsockname()[1])).replace("OUTSIDE", str(os.getpid()))
    began = time.monotonic()
    assert not runs_to_its_end(program, LIMITS)
    assert time.monotonic() - began < 30
    assert Path("/usr/bin/env").exists()
    listener.close()


@needs_sandbox
def test_an_honest_program_passes_and_sees_an_empty_folder_and_no_environment() -> None:
    program = """
import collections, hashlib, itertools, math, os, random, re, string, typing
assert os.listdir() == ["output"] and set(os.environ) <= {"PATH", "LC_CTYPE"}
open("mine", "w").write("x")
print("noise " * 100_000)
"""
    assert runs_to_its_end(program, LIMITS)
    assert runs_to_its_end(program, LIMITS), "what one program wrote is gone when the next one runs"


@needs_sandbox
def test_a_program_that_sleeps_is_ended_with_all_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    word, ended, seen = token_hex(16), Event(), list[int]()  # of the command lines of this test's jails
    monkeypatch.setattr("tinyllama.evaluation.sandbox.secrets", SimpleNamespace(token_hex=lambda _bytes: word))

    def running() -> int:
        return sum(word.encode() in _read(path) for path in Path("/proc").glob("[0-9]*/cmdline"))

    def look() -> None:
        while not (ended.wait(0.05) or seen):
            seen.extend([running()] if running() else [])

    Thread(target=look).start()
    assert not runs_to_its_end("import time\ntime.sleep(600)", SandboxLimits(seconds=1))
    ended.set()
    deadline = time.monotonic() + 20
    while running():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert seen, "the jails are found by their word"


@needs_sandbox
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to start the sandbox as another user")
def test_programs_are_contained_for_a_user_too(tmp_path: Path) -> None:
    base = Path("/usr/bin/python3")
    if not base.exists():
        pytest.skip("needs /usr/bin/python3, an interpreter that every user may run")
    package = tmp_path / "tinyllama" / "evaluation"
    package.mkdir(parents=True)
    source = Path(tinyllama.__file__).parent
    for name in ("errors.py", "evaluation/sandbox.py", "evaluation/jail.py"):
        (tmp_path / "tinyllama" / name).write_bytes((source / name).read_bytes())
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder not in {Path("/"), Path("/tmp")}:  # noqa: S108  # who owns it
            folder.chmod(folder.stat().st_mode | 0o055)
    listener = socket.create_server(("127.0.0.1", 0))
    port, outside = str(listener.getsockname()[1]), str(os.getpid())
    programs = {name: text.replace("PORT", port).replace("OUTSIDE", outside) for name, text in HOSTILE.items()}
    programs["fine"] = "assert 1 == 1"
    script = (
        "import json, sys\nfrom tinyllama.evaluation.sandbox import SandboxLimits, runs_to_its_end, unavailable\n"
        "print(json.dumps(unavailable() or {k: runs_to_its_end(v, SandboxLimits(60 if k == 'fine' else 2, 1 << 28)) "
        "for k, v in json.load(sys.stdin).items()}))"
    )
    done = subprocess.run(
        [base, "-c", script], input=json.dumps(programs), text=True, capture_output=True, check=False, cwd=tmp_path,
        user=61234, group=61234, extra_groups=[], env={"PYTHONDONTWRITEBYTECODE": "1", "SECRET": "word"},
    )  # fmt: skip
    listener.close()
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    if isinstance(found, str):
        pytest.skip(f"for a user without privileges: {found}")
    assert [name for name, passed in found.items() if passed] == ["fine"]


def test_where_nothing_can_be_shut_in_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.unavailable.cache_clear()
    monkeypatch.setattr(sys, "platform", "plan9")
    with pytest.raises(EvaluationError, match="Linux namespaces only, not on plan9"):
        runs_to_its_end("x = 1")
    sandbox.unavailable.cache_clear()


def test_a_kernel_that_refuses_namespaces_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = tmp_path / "jail.py"
    refusing.write_text("import os, sys\nsys.stderr.write('unshare: Operation not permitted\\n')\nos._exit(125)\n")
    sandbox.unavailable.cache_clear()
    monkeypatch.setattr(jail, "__file__", str(refusing))
    assert "unshare: Operation not permitted" in str(sandbox.unavailable())
    sandbox.unavailable.cache_clear()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
