"""The files of a source: local paths, globs and directories, or URLs of any fsspec file system."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from tinyllama.errors import CorpusError, SourceError
from tinyllama.hub import access_hint, probe
from tinyllama.paths import expand_text, printable_path, unset_variables
from tinyllama.sources.decompression import COMPRESSED_SUFFIXES
from tinyllama.sources.local_files import find_local
from tinyllama.sources.records import record_suffix
from tinyllama.sources.rejected import Rejected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tinyllama.hub import RepositoryKind
    from tinyllama.recipe import Source
    from tinyllama.sources.rejected import Reject

_TEXT_SUFFIXES = (
    ".adoc .asm .bash .bib .c .cc .cfg .clj .cmake .cpp .cs .css .csv .cu .cxx .dart .el .erl .ex .f "
    ".f90 .fs .go .gradle .h .hh .hpp .hs .html .ini .java .jl .js .json .jsx .kt .lean .lisp .lua .m "
    ".markdown .md .mk .ml .mli .mm .nim .org .pas .php .pl .pm .proto .ps1 .py .pyi .r .rb .rs .rst "
    ".s .sass .scala .scm .scss .sh .sql .svg .swift .tcl .tex .thy .toml .ts .tsv .tsx .txt .v .vb "
    ".vhd .vim .vue .xml .yaml .yml .zig"
)
TEXT_SUFFIXES = frozenset(_TEXT_SUFFIXES.split())
"""Suffixes of files that are read as text in a directory; a pattern that spells another suffix adds it."""

_URL = re.compile(r"[a-z][a-z0-9+.-]*(::[a-z][a-z0-9+.-]*)*://")
_SAMPLE = 1 << 20
_COMPRESSED = (*COMPRESSED_SUFFIXES, ".parquet")
_EXPANSION = 3
"""Bytes of text that a byte of a compressed file holds at least."""
_HUB = "hf://"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a source."""

    location: str
    """An absolute path or a URL."""
    origin: str
    """Its name in records: the path relative to the recipe's root if it is below that."""
    bytes: int
    version: str
    """Changes whenever the file changes: the modification time, or what a remote system reports instead."""

    @property
    def text_bytes(self) -> int:
        """Bytes of text that it is expected to hold at least."""
        return self.bytes * (_EXPANSION if self.origin.endswith(_COMPRESSED) else 1)

    @property
    def is_sampled_whole(self) -> bool:
        """Whether its fingerprint covers all of it."""
        return self.bytes <= 2 * _SAMPLE

    def open(self) -> BinaryIO:
        """Open the file to read bytes; remote files are read ahead.

        Raises:
            OSError: it cannot be opened.
        """
        if not is_url(self.location):
            return Path(self.location).open("rb")
        import fsspec  # takes a while, and most corpora are local

        opened: BinaryIO = fsspec.open(self.location, "rb").open()
        return opened

    def fingerprint(self) -> str:
        """Hex SHA-256 of the file's size and of its first and last MiB: fast at any size, for remote files too.

        Raises:
            OSError: it cannot be read.
        """
        with self.open() as file:
            digest = hashlib.sha256(f"{self.bytes}\n".encode())
            digest.update(file.read(_SAMPLE))
            if self.bytes > _SAMPLE:
                file.seek(max(_SAMPLE, self.bytes - _SAMPLE))
                digest.update(file.read(_SAMPLE))
        return digest.hexdigest()


def is_url(pattern: str) -> bool:
    """Whether a source's `files` is a URL (`s3://…`, `hf://datasets/…`) and not a local path."""
    return _URL.match(pattern) is not None


class FileFinder:
    """Finds the files of the sources of one corpus, each file once."""

    def __init__(self, root: Path, name: str, reject: Reject) -> None:
        """Begin a corpus.

        Args:
            root: folder that relative patterns start from.
            name: the corpus's name, for messages.
            reject: receives files that are not read, because of their suffix, or because they were found before with
                the same settings.
        """
        self._root, self._reject = root, reject
        self._where = f"corpus {name}: " if name else ""
        self._seen: set[tuple[str, str]] = set()

    def find(self, source: Source) -> list[SourceFile]:
        """The readable files of a source in the order of their paths (code points).

        Hidden files and folders are skipped in directories and globs.

        Raises:
            CorpusError: the pattern matches nothing.
            SourceError: a remote system refuses or does not answer.
        """
        pattern = str(source.files)
        spelled = expand_text(pattern)
        found = _find_remote(spelled) if is_url(spelled) else self._find_local(pattern)
        if not found:
            raise CorpusError(self._nothing_found(pattern))
        return list(self._readable(sorted(found, key=lambda file: file.location), source))

    def _find_local(self, pattern: str) -> list[SourceFile]:
        found = find_local(pattern, self._root)
        for path, reason in sorted(found.unusable.items()):
            self._reject(Rejected(_origin(path, self._root), reason, "", "skipped"))
        if not found.files and found.unusable:
            path, reason = min(found.unusable.items())
            raise CorpusError(f"{self._where}{_origin(path, self._root)}: {reason}; correct `files`")
        return [_local_file(path, self._root) for path in found.files]

    def _nothing_found(self, pattern: str) -> str:
        remedy = "correct `files`, put the data there, or run the command from the folder that holds it"
        if unset := unset_variables(pattern):
            remedy = f"the environment variable {unset[0]} is not set: set it, or correct `files`"
        looked = "" if is_url(expand_text(pattern)) else f" (looked in {self._root.absolute()})"
        return f"{self._where}no file matches {pattern!r}{looked}; {remedy}"

    def _readable(self, files: list[SourceFile], source: Source) -> Iterator[SourceFile]:
        settings = json.dumps([source.text_field, source.where])
        for file in files:
            path = PurePosixPath(file.location)
            key = (file.location if is_url(file.location) else str(Path(file.location).resolve()), settings)
            if key in self._seen:
                reason = "this file was already read for this corpus, under another name or source"
                self._reject(Rejected(file.origin, reason, "", "skipped"))
            elif not _is_readable(path, str(source.files)):
                reason = f"a file of suffix {path.suffix!r} is read as text only where `files` spells the suffix"
                self._reject(Rejected(file.origin, reason, "", "skipped"))
            else:
                yield file
            self._seen.add(key)


def _is_readable(path: PurePath, pattern: str) -> bool:
    suffix = path.suffix.lower()
    return suffix in TEXT_SUFFIXES or record_suffix(path.name) is not None or suffix == PurePath(pattern).suffix.lower()


def _local_file(path: Path, root: Path) -> SourceFile:
    status = path.stat()
    return SourceFile(path.absolute().as_posix(), _origin(path, root), status.st_size, str(status.st_mtime_ns))


def _origin(path: Path, root: Path) -> str:
    return printable_path((path.relative_to(root) if path.is_relative_to(root) else path).as_posix())


def _find_remote(pattern: str) -> list[SourceFile]:
    import fsspec  # takes a while, and most corpora are local

    # The file system retries for minutes.
    if pattern.startswith(_HUB) and (answer := probe(*_repository(pattern))).revision is None:
        raise SourceError(_refusal(pattern, answer.reason))
    try:
        system, path = fsspec.url_to_fs(pattern)
        listed = system.glob(path, detail=True) if "*" in path else {path: system.info(path)}
        for folder in [name for name, entry in listed.items() if entry["type"] == "directory"]:
            listed |= {
                name: entry
                for name, entry in system.find(folder, detail=True).items()
                if not _is_hidden(PurePosixPath(name).relative_to(folder))
            }
    except FileNotFoundError as error:
        if pattern.startswith(_HUB):  # a private set of the hub looks like one that is not there
            raise SourceError(_refusal(pattern, _first_line(error))) from error
        return []
    except Exception as error:  # every file system has errors of its own
        raise SourceError(_refusal(pattern, _first_line(error))) from error
    chained = pattern.rpartition("::")[0]
    return [
        _remote_file(f"{chained}::{system.unstrip_protocol(name)}" if chained else system.unstrip_protocol(name), entry)
        for name, entry in listed.items()
        if entry["type"] == "file"
    ]


def _remote_file(
    location: str,
    entry: dict[str, Any],  # fsspec's, of any file system
) -> SourceFile:
    version = next((str(entry[key]) for key in ("ETag", "etag", "blob_id", "sha256", "mtime") if entry.get(key)), "")
    return SourceFile(location, location, int(entry.get("size") or 0), version)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


def _refusal(pattern: str, reason: str) -> str:
    if not pattern.startswith(_HUB):
        return f"{pattern}: cannot be read ({reason}); correct `files`, or the credentials of its file system"
    return (
        f"{pattern}: the hub refuses it or cannot be reached ({reason}). {access_hint(_repository(pattern)[0])}; "
        "otherwise check the connection, or name a local copy in `files`"
    )


def _repository(pattern: str) -> tuple[str, RepositoryKind]:
    """The repository that a URL of the hub is about: `hf://datasets/OWNER/NAME@REVISION/…`, or without `datasets/`."""
    first, *rest = PurePosixPath(pattern.removeprefix(_HUB)).parts
    kinds: dict[str, RepositoryKind] = {"datasets": "dataset", "spaces": "space"}
    kind = kinds.get(first, "model")
    return "/".join(rest[:2] if first in kinds else [first, *rest[:1]]).partition("@")[0], kind


def _is_hidden(path: PurePath) -> bool:
    return any(part.startswith(".") for part in path.parts)
