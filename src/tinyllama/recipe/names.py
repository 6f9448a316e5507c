"""Names of families, models and corpora: each can be a folder on any file system."""

from __future__ import annotations

import re

from tinyllama.text import shown

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_LONGEST = 100
"""Characters; folders of exports and of partial files have longer names, and file systems allow 255."""
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)
"""Names that Windows reserves, with any suffix."""


def parse_name(value: object) -> object:
    """A name that can be a folder on any file system; anything but text is left to the next validator.

    Raises:
        ValueError: the text is no such name.
    """
    if not isinstance(value, str):
        return value
    if not _NAME.fullmatch(value):
        raise ValueError(f"{shown(value)} is no name; write letters, digits, `_`, `.` and `-`, first a letter or digit")
    if len(value) > _LONGEST:
        raise ValueError(f"{shown(value)} has {len(value)} characters; a name has at most {_LONGEST}")
    if value.endswith("."):
        raise ValueError(f"{shown(value)} ends with a period, which Windows removes from names; choose another name")
    if _DEVICES.fullmatch(value):
        raise ValueError(f"{shown(value)} is the name of a device on Windows; choose another name")
    return value
