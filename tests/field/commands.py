"""`tinyllama` in processes that fork from one that has imported everything: a command starts in 20 ms instead of 2 s.

The server is a process of its own that runs no command itself, so it has no threads when it forks. It needs of the
package only `tinyllama.cli.main`; what else it imports may be absent, so the tests run on any version.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SECONDS = 120
"""Time that a command may take."""
_IMPORTS = (
    "tinyllama.cli.commands",
    "tinyllama.cli.tables",
    "tinyllama.evaluation",
    "tinyllama.export",
    "tinyllama.family",
    "tinyllama.family.train",
    "tinyllama.report",
    "plotly.graph_objects",
    "pyarrow.parquet",
    "rich.live",
    "rich.progress",
    "safetensors.torch",
    "sentencepiece",
    "tokenizers",
    "torch._dynamo",
    "torch.distributed.checkpoint",
)
"""What commands import; a module that this version lacks is left out."""


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    """Exit code; negative for a signal."""
    out: str
    err: str
    seconds: float

    def refused(self) -> str:
        """The message of a command that must have refused its input: exit code 2, no traceback.

        Raises:
            AssertionError: it ended otherwise.
        """
        assert self.code == 2, self
        assert "Traceback" not in self.err, self.err
        return self.err

    def succeeded(self) -> str:
        """Stdout of a command that must have succeeded.

        Raises:
            AssertionError: it failed.
        """
        assert self.code == 0, self
        return self.out


class Commands:
    """Runs `tinyllama` with arguments. A context manager: the server ends with the block."""

    def __init__(self, imports: Sequence[str] = (), env: Mapping[str, str] = MappingProxyType({})) -> None:
        """Start the server.

        Args:
            imports: further modules that it imports at the start, for commands that need them.
            env: environment variables that differ from those here, also while it imports.
        """
        self._server = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(Path(__file__).resolve()), *imports],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **env},
            text=True,
            encoding="ascii",
        )

    def __enter__(self) -> Self:
        """The server is running."""
        return self

    def __exit__(self, *_error: object) -> None:
        """End the server."""
        self._server.communicate()

    def run(  # noqa: PLR0913  # what a process can be given
        self,
        *argv: str | os.PathLike[str],
        cwd: Path,
        env: dict[str, str] | None = None,
        stdin: bytes = b"",
        seconds: float = _SECONDS,
        memory: int | None = None,
        interrupt: tuple[int, float] | None = None,
    ) -> Outcome:
        """Run one command to its end.

        Args:
            argv: arguments of `tinyllama`; a lone surrogate stands for a byte that is no UTF-8.
            cwd: folder in which it runs.
            env: environment variables that differ from those here.
            stdin: what it can read.
            seconds: time after which it and its processes are killed, which counts as exit code -9.
            memory: bytes of data that it may allocate.
            interrupt: a signal, and the seconds after which the command gets it.
        """
        with tempfile.TemporaryDirectory() as folder:
            streams = [Path(folder) / name for name in ("in", "out", "err")]
            streams[0].write_bytes(stdin)
            request = {
                "argv": [os.fspath(argument) for argument in argv],
                "cwd": str(cwd),
                "env": env or {},
                "streams": list(map(str, streams)),
                "seconds": seconds,
                "memory": memory,
                "interrupt": interrupt,
            }
            assert self._server.stdin
            assert self._server.stdout
            self._server.stdin.write(json.dumps(request) + "\n")
            self._server.stdin.flush()
            start = time.monotonic()
            code = int(self._server.stdout.readline())
            out, err = (path.read_bytes().decode(errors="replace") for path in streams[1:])
        return Outcome(code, out, err, time.monotonic() - start)

    def running(self) -> int | None:
        """Process id of the command that runs, for a test that sends it a signal; None between commands."""
        server = self._server.pid
        found = Path(f"/proc/{server}/task/{server}/children").read_text(encoding="ascii").split()
        return int(found[0]) if found else None


def _serve(replies: IO[str]) -> None:
    for name in [*_IMPORTS, *sys.argv[1:]]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    _build_once()
    gc.collect()
    gc.freeze()  # commands that collect garbage would go through all that is imported, and copy it
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _command(request)
        code = _wait(child, request["seconds"], request["interrupt"])
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # whatever it left behind
        replies.write(f"{code}\n")
        replies.flush()


def _build_once() -> None:
    """Have typer make its tree of commands here, which takes it 70 ms, and not in each command."""
    with contextlib.suppress(ImportError):
        import typer.main

        from tinyllama.cli.commands import app

        vars(typer.main)["get_command"] = functools.cache(typer.main.get_command)
        typer.main.get_command(app)


def _wait(child: int, seconds: float, interrupt: tuple[int, float] | None) -> int:
    start = time.monotonic()
    while not (done := os.waitpid(child, os.WNOHANG))[0]:
        if interrupt and time.monotonic() > start + interrupt[1]:
            os.kill(child, interrupt[0])
            interrupt = None
        if time.monotonic() > start + seconds:
            os.killpg(child, signal.SIGKILL)
            done = os.waitpid(child, 0)
            break
        time.sleep(0.005)
    return os.waitstatus_to_exitcode(done[1])


def _command(request: dict[str, object]) -> None:
    """Become a `tinyllama` with its own streams, folder, environment and arguments."""
    code = 1
    try:
        os.setsid()
        _open_streams(*map(str, request["streams"]))  # type: ignore[call-overload]
        os.chdir(str(request["cwd"]))
        if request["memory"]:
            resource.setrlimit(resource.RLIMIT_DATA, (request["memory"],) * 2)  # type: ignore[arg-type]
        os.environ.update(request["env"])  # type: ignore[call-overload]
        _encode_streams()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits that it is ignored
        sys.argv = ["tinyllama", *request["argv"]]  # type: ignore[misc]
        from tinyllama.cli import main

        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001  # what Python itself does with it: print it
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = 120  # as Python does
    os._exit(code)


def _open_streams(stdin: str, stdout: str, stderr: str) -> None:
    for number, (path, flags) in enumerate(
        [(stdin, os.O_RDONLY), (stdout, os.O_WRONLY | os.O_CREAT), (stderr, os.O_WRONLY | os.O_CREAT)]
    ):
        os.dup2(os.open(path, flags), number)


def _encode_streams() -> None:
    """Give stdout and stderr the encoding that the environment asks of a new Python."""
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "utf-8").partition(":")
    sys.stdin = io.TextIOWrapper(io.FileIO(0), encoding="utf-8")
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w")), encoding=encoding, errors=errors or "strict")
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(2, "w")), encoding=encoding, errors="backslashreplace", line_buffering=True
    )


if __name__ == "__main__":
    _replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    _serve(_replies)
