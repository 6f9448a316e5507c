"""A record of a file that holds many documents."""

from __future__ import annotations

from typing import Any, NamedTuple

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
"""Byte order marks of UTF-16, which no UTF-8 begins with."""

Fields = dict[str, Any]  # a user's record: any JSON value, and in Parquet and Arrow any type of theirs


class Record(NamedTuple):
    """One record of a file, or a damaged part of it."""

    location: str
    """Where it is in the file: `:line`, `#row`, or empty for the whole file."""
    fields: Fields
    problem: str = ""
    """Why the record cannot be used; empty for a good one."""
    found: bytes = b""
    """The bytes at the location of a problem."""


def lookup(fields: Fields, name: str) -> object:
    """The value of a field, or None; a name with dots that is not itself a field reaches into nested objects.

    Binary columns of Parquet and Arrow hold text for many writers: bytes that are UTF-8 are returned as a string.
    """
    if name in fields:
        return _as_text(fields[name])
    outer, _, inner = name.partition(".")
    nested = fields.get(outer)
    return lookup(nested, inner) if inner and isinstance(nested, dict) else None


def _as_text(value: object) -> object:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
