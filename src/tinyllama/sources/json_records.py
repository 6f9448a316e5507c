"""Records out of JSON: one a line, a list of them, or objects one after another."""

from __future__ import annotations

import json
import re
from itertools import chain, islice
from typing import TYPE_CHECKING

from tinyllama.sources.decompression import DAMAGE
from tinyllama.sources.record import BYTE_ORDER_MARK, UTF_16_MARKS, Fields, Record

if TYPE_CHECKING:
    from collections.abc import Iterator

_TRIED = 10
"""Lines of which one has to be an object where the first is damaged."""
_END = b"\n"
"""Stands for the end of the file; no line holds a line feed."""
_BETWEEN = re.compile(r"[\s,]*")


def read_json(chunks: Iterator[bytes]) -> Iterator[Record] | None:
    """The records of a JSON file: its lines, the elements of its list, or its objects one after another.

    Lines are read one by one; a list, or objects that span lines, are read into memory as a whole.

    Args:
        chunks: the file's content; an error of `DAMAGE` that it raises becomes a problem of the file.

    Returns:
        None if the file does not hold objects.
    """
    lines, blank = _lines(chunks), list[bytes]()
    try:
        while not (first := next(lines, _END)).removeprefix(BYTE_ORDER_MARK).strip() and first != _END:
            blank.append(first)
    except DAMAGE as error:
        return iter([_lost(0, error)])
    if first == _END:
        return None
    if not _parse(first.removeprefix(BYTE_ORDER_MARK), "").problem:
        return _of_lines(chain(blank, [first], lines))
    content, problem = [*blank, first], list[Record]()
    try:
        content.extend(lines)
    except DAMAGE as error:
        problem = [_lost(len(content), error)]
    values = _values(b"\n".join(content).removeprefix(BYTE_ORDER_MARK))
    if (found := next(values, None)) is not None and not found.problem:
        return chain([found], values, problem)
    if first.lstrip().startswith(b"{") and any(not _parse(line, "").problem for line in islice(content, _TRIED)):
        return chain(_of_lines(iter(content)), problem)
    return None


def _values(content: bytes) -> Iterator[Record]:
    """The elements of a list, or values one after another; what follows the first that cannot be read is lost."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        yield Record("", {}, f"not valid UTF-8 (byte {error.start})", content)
        return
    opening = len(text) - len(text.lstrip())
    in_list = text.startswith("[", opening)
    at, number = _skip(text, opening + in_list), 0
    while at < len(text) and not (in_list and text[at] == "]"):
        problem = ""
        try:
            try:
                value, end = _JSON.raw_decode(text, at)
            except ValueError as error:  # a field that is given twice costs only its record
                value, end = _ANY_JSON.raw_decode(text, at)
                problem = f"not usable JSON: {error}"
        except (ValueError, RecursionError) as error:
            rest = text[at:].encode()
            yield Record(f"#{number}", {}, f"not usable JSON; this record and all after it are lost: {error}", rest)
            return
        if not problem and not isinstance(value, dict):
            problem = f"a JSON {type(value).__name__} where an object with a text field belongs"
        yield Record(f"#{number}", {}, problem, text[at:end].encode()) if problem else Record(f"#{number}", value)
        at, number = _skip(text, end), number + 1
    if in_list and text[at + 1 :].strip():
        yield Record("", {}, "what follows the list is lost", text[at + 1 :].encode())
    elif in_list and at == len(text):
        yield Record("", {}, f"the list has no end; what follows record {number - 1} is lost")


def _skip(text: str, at: int) -> int:
    """The start of the next value at or after a position."""
    found = _BETWEEN.match(text, at)
    return at if found is None else found.end()


def _lost(line: int, error: Exception) -> Record:
    return Record("", {}, f"damaged or cut off; what follows line {line} is lost: {error}")


def read_json_lines(chunks: Iterator[bytes]) -> Iterator[Record]:
    """The records of JSON Lines, one a line.

    Args:
        chunks: the file's content; an error of `DAMAGE` that it raises becomes a problem of the file.
    """
    return _of_lines(_lines(chunks))


def _of_lines(lines: Iterator[bytes]) -> Iterator[Record]:
    number = 0
    try:
        for number, line in enumerate(lines, start=1):
            if number == 1 and line.startswith(UTF_16_MARKS):
                yield Record("", {}, "the file is UTF-16, not UTF-8; all of it is lost: convert it", line)
                return
            content = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
            if content.strip():
                yield _parse(content, f":{number}")
    except DAMAGE as error:
        yield _lost(number, error)


def _parse(line: bytes, location: str) -> Record:
    try:
        fields = _JSON.decode(line.decode())
    except UnicodeDecodeError as error:
        return Record(location, {}, f"not valid UTF-8 at byte {error.start} of the line", line)
    except (ValueError, RecursionError) as error:
        return Record(location, {}, f"not usable JSON: {error}", line)
    if not isinstance(fields, dict):
        return Record(location, {}, f"a JSON {type(fields).__name__} where an object with a text field belongs", line)
    return Record(location, fields)


def _unique(pairs: list[tuple[str, object]]) -> Fields:
    """The object that the pairs spell; refused where a field has two values, since either may be meant."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"field {next(name for name in names if names.count(name) > 1)!r} is given twice")
    return fields


_JSON = json.JSONDecoder(object_pairs_hook=_unique)
_ANY_JSON = json.JSONDecoder()


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Lines, divided at line feeds only; an error of `chunks` is raised after everything before it was yielded."""
    pending: list[bytes] = []
    failure: Exception | None = None
    try:
        for chunk in chunks:
            first, *others = chunk.split(b"\n")
            pending.append(first)
            for other in others:
                yield b"".join(pending)
                pending = [other]
    except DAMAGE as error:
        failure = error
    if rest := b"".join(pending):
        yield rest
    if failure is not None:
        raise failure
