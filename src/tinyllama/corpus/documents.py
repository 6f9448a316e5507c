"""Documents out of text files, directories, JSON Lines, Parquet and builtin sources.

Order is fixed: sources as the recipe lists them, files by path (code points), documents as they stand in
the file. Text is passed on exactly as it is, but for a byte order mark at the start of a file and for halves of
surrogate pairs, which are no characters. What cannot be read is handed to `reject`, one record for each document
or file, never dropped in silence.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from glob import glob
from itertools import chain
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal

from tinyllama.corpus.builtin import read_builtin
from tinyllama.corpus.records import BYTE_ORDER_MARK, UTF_16_MARKS, lookup, read_records, record_suffix
from tinyllama.errors import CorpusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from tinyllama.corpus.records import Record
    from tinyllama.recipe.schema import Corpus, Source

    Reject = Callable[["Rejected"], None]

TEXT_SUFFIXES = frozenset(
    (  # noqa: SIM905  # a literal would take a line for each
        ".adoc .asm .bash .bib .c .cc .cfg .clj .cmake .cpp .cs .css .csv .cu .cxx .dart .el .erl .ex .f "
        ".f90 .fs .go .gradle .h .hh .hpp .hs .html .ini .java .jl .js .json .jsx .kt .lean .lisp .lua .m "
        ".markdown .md .mk .ml .mli .mm .nim .org .pas .php .pl .pm .proto .ps1 .py .pyi .r .rb .rs .rst "
        ".s .sass .scala .scm .scss .sh .sql .svg .swift .tcl .tex .thy .toml .ts .tsv .tsx .txt .v .vb "
        ".vhd .vim .vue .xml .yaml .yml .zig"
    ).split()
)
"""What is read as text in a directory; a file that a pattern names is read as text whatever its suffix."""

_EXCERPT = 120
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_MOST_NULS = 1 / 4
"""Of a text's characters; English in UTF-16 is half NULs when it is read as UTF-8."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text to learn from, or a piece of one that was cut up."""

    text: str
    origin: str
    """Where it stands: `path:line` in JSON Lines, `path#row` in Parquet, else `path` or a builtin's name."""
    group: str
    """The whole source document it belongs to; pieces of a group are neighbours."""
    part: int
    """Index of this piece in its group."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A document, file or part of a file that could not be used, or not as it stood."""

    origin: str
    reason: str
    excerpt: str
    """The start of what was found there, for people."""
    kind: Literal["damaged", "empty", "skipped", "repaired"] = "damaged"
    """`damaged`: text was lost. `empty`: there is none. `skipped`: a file that was not read. `repaired`: the
    document was kept, with U+FFFD in place of what is no character."""


def read_documents(corpus: Corpus, root: Path, reject: Reject, *, name: str = "") -> Iterator[Document]:
    """Every document of a corpus, in order.

    Per source: what `exclude` names is left out, `limit` stops after the whole document that reaches that
    many characters, then `cut` divides long documents (see `cut_text`). Pieces of a group are numbered on.

    Args:
        corpus: the recipe's corpus.
        root: folder that relative file patterns start from.
        reject: receives what could not be used: invalid UTF-8, UTF-16, text that is empty or all white space,
            lines that are no JSON object, fields that are missing, given twice or no string, damaged or
            truncated files, and files that this corpus has already read with the same settings; and documents
            in which lone halves of surrogate pairs were replaced.
        name: the corpus's name, for error messages.

    Raises:
        CorpusError: a pattern matches nothing, or `exclude` is given for a builtin source.
        SourceError: a builtin source cannot be had.
    """
    seen: set[tuple[str, ...]] = set()
    for source in corpus.sources:
        if source.builtin is not None:
            documents = _read_builtin(source, reject, name)
        else:
            files = _new_files(source, root, seen, reject, name)
            documents = chain.from_iterable(_read_file(path, origin, source, reject) for path, origin in files)
        yield from _cut(_limit(documents, source.limit), corpus.cut)


def cut_text(text: str, limit: int) -> Iterator[str]:
    r"""Pieces of at most `limit` characters whose concatenation is the text.

    Each ends at the last line end within the limit, or else at the limit; a `\r\n` is never divided
    (with a limit of 1 such a pair is a piece of 2).
    """
    start = 0
    while len(text) - start > limit:
        end = text.rfind("\n", start, start + limit) + 1
        if not end:
            end = start + limit
            if text[end - 1 : end + 1] == "\r\n":
                end += -1 if end - 1 > start else 1
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def _limit(documents: Iterable[Document], limit: int | None) -> Iterator[Document]:
    characters = 0
    for document in documents:
        yield document
        characters += len(document.text)
        if limit is not None and characters >= limit:
            return


def _cut(documents: Iterable[Document], limit: int | None) -> Iterator[Document]:
    group, part = "", 0
    for document in documents:
        if document.group != group:
            group, part = document.group, 0
        for piece in cut_text(document.text, limit) if limit else [document.text]:
            yield replace(document, text=piece, part=part)
            part += 1


def _read_builtin(source: Source, reject: Reject, name: str) -> Iterator[Document]:
    if source.exclude:
        raise CorpusError(f"{_corpus(name)}exclude needs documents with fields; builtin {source.builtin!r} has none")
    for raw in read_builtin(str(source.builtin)):
        if raw.problem:
            reject(Rejected(raw.origin, raw.problem, ""))
        else:
            yield from _accept(raw.data, raw.origin, raw.group, reject)


def _find_files(source: Source, root: Path, name: str) -> list[Path]:
    """The files of a pattern, sorted; hidden files and folders are no part of a directory or glob."""
    pattern = str(source.files)
    literal = root / pattern
    found = [literal]
    if not literal.exists():
        matches = glob(pattern, root_dir=root, recursive=True)  # noqa: PTH207  # Path.glob takes hidden files too
        found = [root / match for match in matches]
    files = {path for path in found if path.is_file()}
    for folder in (path for path in found if path.is_dir()):
        below = (path for path in folder.rglob("*") if path.is_file())
        files.update(path for path in below if not any(p.startswith(".") for p in path.relative_to(folder).parts))
    if not files:
        raise CorpusError(
            f"{_corpus(name)}no file matches {pattern!r} (looked in {root.absolute()}); correct `files`, "
            "put the data there, or run the command from the folder that holds it"
        )
    return sorted(files, key=lambda path: path.as_posix())


def _new_files(
    source: Source, root: Path, seen: set[tuple[str, ...]], reject: Reject, name: str
) -> Iterator[tuple[Path, str]]:
    """Files with their origins, without those that this corpus has read already."""
    settings = json.dumps([source.text_field, source.exclude])
    for path in _find_files(source, root, name):
        origin = (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
        key = (str(path.resolve()), settings)
        if key in seen:
            reject(
                Rejected(
                    origin, "this file was already read for this corpus, under another name or source", "", "skipped"
                )
            )
        elif not _is_readable(path, str(source.files)):
            reason = f"a file of suffix {path.suffix!r} is read as text only where `files` spells the suffix"
            reject(Rejected(origin, reason, "", "skipped"))
        else:
            yield path, origin
        seen.add(key)


def _is_readable(path: Path, pattern: str) -> bool:
    suffix = path.suffix.lower()
    return suffix in TEXT_SUFFIXES or record_suffix(path) is not None or suffix == PurePath(pattern).suffix.lower()


def _read_file(path: Path, origin: str, source: Source, reject: Reject) -> Iterator[Document]:
    try:
        if record_suffix(path) is None:
            yield from _accept(path.read_bytes(), origin, origin, reject)
            return
        for record in read_records(path, {source.text_field, *source.exclude}):
            yield from _accept_record(record, origin + record.place, source, reject)
    except OSError as error:
        reject(Rejected(origin, f"the file cannot be read: {error.strerror or error}", ""))


def _accept_record(record: Record, origin: str, source: Source, reject: Reject) -> Iterator[Document]:
    text = lookup(record.fields, source.text_field)
    if record.problem:
        reject(Rejected(origin, record.problem, _excerpt(record.found)))
    elif any(_spelling(lookup(record.fields, field)) in values for field, values in source.exclude.items()):
        return
    elif isinstance(text, str):
        yield from _accept(text, origin, origin, reject)
    else:
        found = f"is no string but {type(text).__name__}" if text is not None else "is not there or null"
        reject(Rejected(origin, f"text field {source.text_field!r} {found}", _spelling(record.fields)[:_EXCERPT]))


def _accept(data: bytes | str, origin: str, group: str, reject: Reject) -> Iterator[Document]:
    """The text as a document, unless it is none."""
    if isinstance(data, str):
        text, halves = _HALF_PAIR.subn("\ufffd", data) if not _is_encodable(data) else (data, 0)
        if halves:
            reason = f"halves of surrogate pairs became U+FFFD: {halves} of them"
            reject(Rejected(origin, reason, _excerpt(data), "repaired"))
    else:
        try:
            text = data.removeprefix(BYTE_ORDER_MARK).decode()
        except UnicodeDecodeError as error:
            found = "UTF-16, not UTF-8: convert it" if data.startswith(UTF_16_MARKS) else "not valid UTF-8"
            reject(Rejected(origin, f"{found} (byte {error.start})", _excerpt(data)))
            return
    if not text.strip():
        reject(Rejected(origin, "empty: no text but white space", _excerpt(text), "empty"))
    elif "\0" in text and text.count("\0") > _MOST_NULS * len(text):
        share = text.count("\0") / len(text)
        reject(Rejected(origin, f"{share:.0%} of the characters are NUL: UTF-16, or no text at all", _excerpt(text)))
    else:
        yield Document(text, origin, group, 0)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _spelling(value: Any) -> str:  # noqa: ANN401  # any JSON value
    """A value as a recipe's `exclude` spells it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _excerpt(data: bytes | str) -> str:
    if isinstance(data, bytes):
        data = data[: 4 * _EXCERPT].decode(errors="replace")
    return data[:_EXCERPT].encode(errors="backslashreplace").decode()


def _corpus(name: str) -> str:
    return f"corpus {name}: " if name else ""
