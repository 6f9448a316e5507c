"""An S3-compatible server of its own process, spoken to over HTTP: moto's."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def s3_server(log: Path) -> Iterator[dict[str, str]]:
    """Start the server; yields the environment in which s3fs speaks to it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("w", encoding="utf-8") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 120
        while not _answers(port):
            assert server.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, "moto's server does not answer"
            time.sleep(0.1)
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    finally:
        server.terminate()
        server.wait()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def speak_to(environment: dict[str, str]) -> None:
    """Let this process speak to the server."""
    os.environ.update(environment)


def kill_in_upload(environment: dict[str, str], object_number: int) -> None:
    """Speak to the server, and be killed once so many objects are uploaded."""
    from s3fs import S3FileSystem

    speak_to(environment)
    original, uploaded = S3FileSystem._put_file, 0  # noqa: SLF001  # what each upload comes to

    async def put_file(self: S3FileSystem, *arguments: object, **keywords: object) -> object:
        nonlocal uploaded
        result = await original(self, *arguments, **keywords)
        uploaded += 1
        if uploaded == object_number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    S3FileSystem._put_file = put_file  # noqa: SLF001  # as above
