"""Documents out of text files, directories, JSON Lines, Parquet and builtin sources.

The order is fixed: sources as the recipe lists them, files by path (code points), documents as in their file. Text is
passed on unchanged, except for a byte order mark at the start of a file and for lone halves of surrogate pairs, which
are not characters. Documents and files that cannot be read are passed to `reject`, one record each; nothing is dropped
silently.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tinyllama.errors import CorpusError, SourceError
from tinyllama.recipe import Filter, Source
from tinyllama.sources.builtin.registry import read_builtin, replacement_of
from tinyllama.sources.decompression import DAMAGE, decompress
from tinyllama.sources.files import FileFinder, is_url
from tinyllama.sources.json_records import read_json
from tinyllama.sources.record import BYTE_ORDER_MARK, UTF_16_MARKS, lookup
from tinyllama.sources.records import JSON_SUFFIXES, read_records, record_suffix
from tinyllama.sources.rejected import Rejected, excerpt
from tinyllama.sources.token_files import is_token_file, spell_documents
from tinyllama.text import listing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from tinyllama.recipe import Corpus
    from tinyllama.sources.files import SourceFile
    from tinyllama.sources.record import Fields, Record
    from tinyllama.sources.rejected import Reject
    from tinyllama.tokenizer.base import Tokenizer

TASK_BYTES = 16_000_000
"""Bytes of text at which a task is full: files of a source are read together up to this size."""

_PEEKED = 10
"""Records of a JSON file of which one has the text field."""
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_MOST_NULS = 1 / 4
"""Largest share of NULs in a text; English in UTF-16 is half NULs when it is read as UTF-8."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text to learn from, or a piece of one that was cut up."""

    text: str
    origin: str
    """Where it was found: `path:line` in JSON Lines, `path#row` in Parquet and files of token ids, else `path` or the
    name that a builtin source gives it."""
    group: str
    """The source document that it is a piece of; pieces of a group are neighbors."""
    part: int
    """Index of this piece in its group."""
    number: int = 0
    """Index of the document that it is a piece of among those of its task, where copies are dropped."""


class Refine(Protocol):
    """Selects and changes documents; those that it drops are passed to `reject`."""

    def __call__(self, documents: Iterable[Document], reject: Reject) -> Iterator[Document]:
        """The documents that are kept."""


class ReadTask(NamedTuple):
    """A part of a corpus that can be read independently of the others."""

    source: int
    """Index of the source in the recipe."""
    files: tuple[SourceFile, ...]
    """Files of that source; none for a builtin source, which is one task."""
    instead: str = ""
    """The builtin source that is read instead of the recipe's, where that is unavailable."""

    @property
    def size(self) -> int:
        """Total size of the files in bytes."""
        return sum(file.bytes for file in self.files)

    @property
    def text_bytes(self) -> int:
        """Bytes of text that its files are expected to hold."""
        return sum(file.text_bytes for file in self.files)


def read_documents(
    corpus: Corpus, root: Path, reject: Reject, *, name: str = "", refine: Refine | None = None
) -> Iterator[Document]:
    """Every document of a corpus, in order.

    Args:
        corpus: the recipe's corpus.
        root: folder that relative file patterns start from.
        reject: receives documents and files that cannot be used, see `plan_tasks` and `read_task`.
        name: the corpus's name, for error messages.
        refine: see `read_task`.

    Raises:
        CorpusError: a pattern matches nothing.
        SourceError: a builtin or remote source is unavailable.
    """
    for task in plan_tasks(corpus, root, reject, name=name):
        yield from read_task(corpus, task, reject, refine=refine)


def plan_tasks(corpus: Corpus, root: Path, reject: Reject, *, name: str = "") -> list[ReadTask]:
    """Divide a corpus into tasks; the division depends only on its files and their sizes.

    Here it is decided whether a builtin source that is unavailable is replaced, so that whoever does a task reads the
    same text.

    Args:
        corpus: the recipe's corpus.
        root: folder that relative file patterns start from.
        reject: receives files that are not read, because of their suffix, or because the corpus has them already
            with the same settings.
        name: the corpus's name, for error messages.

    Raises:
        CorpusError: a pattern matches nothing, or no builtin source has the name.
        SourceError: a remote source refuses or does not answer.
    """
    finder, tasks = FileFinder(root, name, reject), []
    for index, source in enumerate(corpus.sources):
        if source.builtin is not None:
            replacement = replacement_of(source.builtin)
            tasks.append(ReadTask(index, (), replacement.name if replacement else ""))
            continue
        files = finder.find(source)
        # A limit counts over all files of its source, so they are one task.
        tasks += [ReadTask(index, group) for group in _groups(files, None if source.limit else TASK_BYTES)]
    return tasks


def _groups(files: list[SourceFile], limit: int | None) -> Iterator[tuple[SourceFile, ...]]:
    group: list[SourceFile] = []
    size = 0
    for file in files:
        group.append(file)
        size += file.text_bytes
        if limit is not None and size >= limit:
            yield tuple(group)
            group, size = [], 0
    if group:
        yield tuple(group)


def read_task(
    corpus: Corpus,
    task: ReadTask,
    reject: Reject,
    tokenizer: Tokenizer | None = None,
    refine: Refine | None = None,
) -> Iterator[Document]:
    """The documents of a task, in order.

    `where` selects documents, `refine` selects and changes them, `limit` stops after the document that reaches that
    many characters, then `cut` divides long documents (see `cut_text`). The pieces of a group are numbered
    consecutively.

    Args:
        corpus: the recipe's corpus.
        task: one of its tasks.
        reject: receives documents and files that cannot be used: invalid UTF-8, UTF-16, text that is empty or all
            white space, lines that are not a JSON object, fields that are missing, duplicate or not a string, and
            damaged or truncated files; also documents in which lone halves of surrogate pairs were replaced.
        tokenizer: decodes files of token ids.
        refine: selects and changes documents by their text; None keeps all as they are.

    Raises:
        CorpusError: a file of token ids is of another tokenizer or contradicts itself, or no tokenizer is given.
        SourceError: a builtin source is unavailable, or a remote file cannot be read.
    """
    source = corpus.sources[task.source]
    if source.builtin is not None:
        documents = _read_builtin(task.instead or source.builtin, reject)
    else:
        keep = Filter(source.where) if source.where else None
        read = partial(_read_file, source=source, keep=keep, reject=reject, tokenizer=tokenizer)
        documents = chain.from_iterable(map(read, task.files))
    if refine is not None:
        documents = refine(documents, reject)
    yield from _cut(_limit(documents, source.limit), corpus.cut)


def accept_text(data: bytes | str, origin: str, group: str, reject: Reject) -> Iterator[Document]:
    """A text as a document; none if it cannot be used.

    Args:
        data: the text; bytes are UTF-8, maybe after a byte order mark.
        origin: see `Document`.
        group: see `Document`.
        reject: receives the text if it is no UTF-8, empty or mostly NULs; also if halves of pairs were replaced.
    """
    if isinstance(data, str):
        text, halves = _HALF_PAIR.subn("\ufffd", data) if not _is_encodable(data) else (data, 0)
        if halves:
            reason = f"halves of surrogate pairs became U+FFFD: {halves} of them"
            reject(Rejected(origin, reason, excerpt(data), "repaired"))
    else:
        try:
            text = data.removeprefix(BYTE_ORDER_MARK).decode()
        except UnicodeDecodeError as error:
            found = "UTF-16, not UTF-8: convert it" if data.startswith(UTF_16_MARKS) else "not valid UTF-8"
            reject(Rejected(origin, f"{found} (byte {error.start})", excerpt(data)))
            return
    if not text or text.isspace():
        reject(Rejected(origin, "empty: no text but white space", excerpt(text), "empty"))
    elif "\0" in text and text.count("\0") > _MOST_NULS * len(text):
        share = text.count("\0") / len(text)
        reject(Rejected(origin, f"{share:.0%} of the characters are NUL: UTF-16, or no text at all", excerpt(text)))
    else:
        yield Document(text, origin, group, 0)


def cut_text(text: str, limit: int) -> Iterator[str]:
    r"""Pieces of at most `limit` characters whose concatenation is the text.

    Each piece ends at the last line end within the limit, or else at the limit. A `\r\n` is never divided: with a
    limit of 1, such a pair is a piece of 2 characters.
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
            is_whole = part == document.part and len(piece) == len(document.text)
            yield document if is_whole else replace(document, text=piece, part=part)
            part += 1


def _read_builtin(name: str, reject: Reject) -> Iterator[Document]:
    for raw in read_builtin(name):
        if raw.problem:
            reject(Rejected(raw.origin, raw.problem, ""))
        else:
            yield from accept_text(raw.data, raw.origin, raw.group, reject)


def _read_file(
    file: SourceFile, *, source: Source, keep: Filter | None, reject: Reject, tokenizer: Tokenizer | None
) -> Iterator[Document]:
    suffix = record_suffix(file.origin)
    try:
        if is_token_file(file.origin):
            yield from _read_tokens(file, tokenizer, reject)
            return
        with file.open() as opened:
            if suffix is None:
                yield from _read_text(opened, file, reject)
                return
            if suffix in JSON_SUFFIXES:
                records = _json_records(opened, file, suffix, source, reject)
            else:
                records = read_records(opened, suffix, source.text_field, keep.fields if keep else ())
            if records is None:
                opened.seek(0)
                yield from _read_text(opened, file, reject)
                return
            for record in records:
                yield from _accept_record(record, file.origin + record.location, source.text_field, keep, reject)
    except OSError as error:
        if is_url(file.location):  # the network may work later: quarantining the file would lose its text
            raise SourceError(f"{file.location}: reading failed ({error}); run the same command again") from error
        reject(Rejected(file.origin, f"the file cannot be read: {error.strerror or error}", ""))


def _read_text(opened: BinaryIO, file: SourceFile, reject: Reject) -> Iterator[Document]:
    """A file as one document."""
    try:
        data = b"".join(decompress(opened, file.origin.lower()))
    except DAMAGE as error:
        reject(Rejected(file.origin, f"damaged or cut off: {error}", ""))
        return
    yield from accept_text(data, file.origin, file.origin, reject)


def _json_records(
    opened: BinaryIO, file: SourceFile, suffix: str, source: Source, reject: Reject
) -> Iterator[Record] | None:
    """The records of a JSON file; none if it is refused; None if it is itself a text, such as code's configuration.

    It holds records if one of the first has the text field. Else it is refused where `files` spells the suffix and
    either it holds several records or the source names a field of records; and where it is compressed.
    """
    records = read_json(decompress(opened, suffix))
    first = list(islice(records or (), _PEEKED))
    if records is not None and any(lookup(record.fields, source.text_field) is not None for record in first):
        return chain(first, records)
    pattern = PurePath(str(source.files)).suffix.lower()
    spelled = pattern != "" and suffix.endswith(pattern)
    declared = source.where is not None or source.text_field != Source.model_fields["text_field"].default
    if suffix == JSON_SUFFIXES[0] and not (spelled and (declared or len(first) > 1)):
        return None
    fields = listing(list(dict.fromkeys(name for record in first for name in record.fields)))
    found = f"its records have no field {source.text_field!r} but {fields}" if fields else "it holds no JSON objects"
    remedy = "name the field of the text with text_field, or, if the JSON itself is the text, name the file .txt"
    reject(Rejected(file.origin, f"{found}; {remedy}", "", "damaged" if spelled else "skipped"))
    return iter(())


def _read_tokens(file: SourceFile, tokenizer: Tokenizer | None, reject: Reject) -> Iterator[Document]:
    if tokenizer is None:
        raise CorpusError(
            f"{file.origin}: holds token ids, and a tokenizer is trained on text; name corpora of text in "
            "tokenizer.train.corpora, or set tokenizer.file to the tokenizer that the ids were made with"
        )
    for index, text in spell_documents(file, tokenizer):
        yield from accept_text(text, f"{file.origin}#{index}", f"{file.origin}#{index}", reject)


def _accept_record(
    record: Record, origin: str, text_field: str, keep: Filter | None, reject: Reject
) -> Iterator[Document]:
    if record.problem:
        reject(Rejected(origin, record.problem, excerpt(record.found)))
        return
    try:
        if keep is not None and not keep.keeps(partial(lookup, record.fields)):
            return
    except ValueError as error:
        reject(Rejected(origin, str(error), _spelling(record.fields)))
        return
    text = lookup(record.fields, text_field)
    if isinstance(text, str | bytes):
        yield from accept_text(text, origin, origin, reject)
    else:
        found = f"is no string but {type(text).__name__}" if text is not None else "is not there or null"
        reject(Rejected(origin, f"text field {text_field!r} {found}", _spelling(record.fields)))


def utf8_bytes(text: str) -> int:
    """Size of a text in UTF-8.

    Raises:
        UnicodeEncodeError: the text has lone halves of surrogate pairs.
    """
    return len(text) if text.isascii() else len(text.encode())  # Python knows whether a text is ASCII


def _is_encodable(text: str) -> bool:
    try:
        utf8_bytes(text)
    except UnicodeEncodeError:
        return False
    return True


def _spelling(fields: Fields) -> str:
    return excerpt(json.dumps(fields, default=str, ensure_ascii=False))
