"""A stand-in for the Hugging Face hub: what its client calls of its HTTP interface, for small models and data sets.

It is no hub: nobody is checked beyond one token, nothing is kept on disk, and a revision is a branch.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGE = (".safetensors", ".gguf", ".model")
"""Files that go through large file storage."""
COMMIT, CONVERTED_COMMIT = "0" * 40, "1" * 40
CONVERTED = "refs/convert/parquet"
"""The one branch beside the main one: a data set that the hub converted to Parquet."""


@dataclass
class Hub:
    """What the stand-in holds."""

    url: str = ""
    token: str = "hf_standin"  # noqa: S105  # of the stand-in alone
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """By name; a data set's begins with `datasets/`, and that of its converted branch ends with `@` and the branch."""
    private: set[str] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)
    """Repositories whose existence is public, and whose files are nobody's."""
    stored: dict[str, bytes] = field(default_factory=dict)
    """Large files by their SHA-256."""
    commits: list[str] = field(default_factory=list)
    requests: int = 0


@contextmanager
def stand_in_hub() -> Iterator[Hub]:
    """Serve a hub on a free port of this machine while the block runs."""
    hub = Hub()

    class Handler(_Handler):
        held = hub

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    held: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:  # noqa: ANN401  # the base class's
        """Say nothing."""

    def do_GET(self) -> None:  # the name that the base class looks for
        self.held.requests += 1
        path = unquote(self.path.split("?")[0]).strip("/")
        kind = "datasets/" if path.startswith(("datasets/", "api/datasets/")) else ""
        owner, name, *parts = [*path.removeprefix("api/").removeprefix(kind or "models/").split("/"), ""]
        name = f"{kind}{owner}/{name}"
        inside = "/".join(parts[:-1]).replace(CONVERTED, CONVERTED_COMMIT)
        if CONVERTED_COMMIT in inside:
            name = f"{name}@{CONVERTED}"
        rest = "/".join(inside.split("/")[2:]) if inside.startswith("resolve/") else ""
        private = name in self.held.private and self.headers.get("Authorization") != f"Bearer {self.held.token}"
        if name not in self.held.repositories or private:
            known = name.partition("@")[0] in self.held.repositories and not private
            code = "RevisionNotFound" if known else "RepoNotFound"
            self._answer(404 if known else 401, {"error": "Repository not found"}, code=code)
        elif name in self.held.gated and (rest or path.endswith("auth-check")):
            self._answer(403, {"error": "Access is restricted"}, code="GatedRepo")
        elif rest:
            self._give(self.held.repositories[name].get(rest))
        elif inside.startswith("tree/"):
            held = self.held.repositories[name].items()
            tree = [{"type": "file", "path": file, "size": len(data), "oid": COMMIT} for file, data in held]
            self._answer(200, tree)
        else:
            files = [{"rfilename": file} for file in self.held.repositories[name]]
            gated = "auto" if name in self.held.gated else False
            commit = CONVERTED_COMMIT if CONVERTED in name else COMMIT
            about = {"id": name, "sha": commit, "siblings": files, "gated": gated}
            self._answer(200, about | {"private": name in self.held.private})

    def do_HEAD(self) -> None:  # the name that the base class looks for
        self.do_GET()

    def do_POST(self) -> None:  # the name that the base class looks for
        self.held.requests += 1
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.split("?")[0]
        if path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif self.headers.get("Authorization") != f"Bearer {self.held.token}":
            self._answer(401, {"error": "Invalid username or password."})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path.endswith("/preupload/main"):
            modes = [
                {"path": file["path"], "shouldIgnore": False, "oid": None}
                | {"uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular"}
                for file in json.loads(body)["files"]
            ]
            self._answer(200, {"files": modes})
        elif path.endswith("/info/lfs/objects/batch"):
            objects = [
                entry | {"actions": {"upload": {"href": f"{self.held.url}/store/{entry['oid']}"}}}
                for entry in json.loads(body)["objects"]
            ]
            self._answer(200, {"transfer": "basic", "objects": objects})
        else:
            self._commit(path.removeprefix("/api/models/").removesuffix("/commit/main"), body)

    def do_PUT(self) -> None:  # the name that the base class looks for
        self.held.requests += 1
        data = self.rfile.read(int(self.headers["Content-Length"]))
        name = self.path.removeprefix("/store/")
        if hashlib.sha256(data).hexdigest() != name:
            self._answer(400, {"error": "another content than announced"})
            return
        self.held.stored[name] = data
        self._answer(200, {})

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        known = name in self.held.repositories
        self.held.repositories.setdefault(name, {})
        if not known and (asked.get("visibility") == "private" or asked.get("private")):  # releases differ
            self.held.private.add(name)
        self._answer(409 if known else 200, {"url": f"{self.held.url}/{name}"})

    def _commit(self, name: str, body: bytes) -> None:
        files = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                self.held.commits.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.held.stored[value["oid"]]
        self.held.repositories[name] |= files
        self._answer(200, {"success": True, "commitOid": COMMIT, "commitUrl": f"{self.held.url}/{name}/commit/0"})

    def _give(self, data: bytes | None) -> None:
        if data is None:
            self._answer(404, {"error": "Entry not found"}, code="EntryNotFound")
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", CONVERTED_COMMIT if CONVERTED_COMMIT in self.path else COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def _answer(self, status: int, value: Any, code: str | None = None) -> None:  # noqa: ANN401  # any JSON value
        data = json.dumps(value).encode()
        self.send_response(status)
        if code is not None:
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", str(value["error"]))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
