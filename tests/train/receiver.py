"""A receiver of `logging.notify` for tests: an HTTP server on this machine that keeps what it gets."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver(ThreadingHTTPServer):
    """Answers with a status, after some seconds."""

    daemon_threads = True

    def __init__(self, status: int = 200, seconds: float = 0.0) -> None:
        self.status, self.seconds = status, seconds
        self.messages: list[dict[str, Any]] = []
        self.paths: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook/secret-token"

    @property
    def events(self) -> list[tuple[str, str]]:
        """Model and event of each message."""
        return [(message["model"], message["event"]) for message in self.messages]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        assert self.headers["Content-Type"] == "application/json"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.paths.append(self.path)
        self.server.messages.append(json.loads(body))
        time.sleep(self.server.seconds)
        self.send_response(self.server.status)
        self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def receiving(status: int = 200, seconds: float = 0.0) -> Iterator[Receiver]:
    """A receiver that runs in a thread."""
    with Receiver(status, seconds) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
