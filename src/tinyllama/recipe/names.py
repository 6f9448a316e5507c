"""Names of families, models and corpora: each is the name of a folder, on any file system."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from tinyllama.layout import BASE, FamilyLayout
from tinyllama.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

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


def refuse_same_folder(names: Iterable[str], what: str) -> None:
    """Refuse two names that are one folder where the file system ignores case.

    Raises:
        ValueError: two names differ only in case.
    """
    for name, other in combinations(names, 2):
        if name.lower() == other.lower():
            raise ValueError(
                f"the {what} {name} and {other} differ only in case, and some file systems ignore it; rename one"
            )


def refuse_taken(variants: Iterable[str]) -> None:
    """Refuse a variant whose folders or files would be those of another model, or of the family itself.

    Raises:
        ValueError: such a variant; the message names it and what has the name already.
    """
    models = [BASE, *variants]
    if BASE in models[1:]:
        raise ValueError(f"{BASE!r} is the name of the shared base; give the variant another one")
    refuse_same_folder(models, "models")
    layout = FamilyLayout(Path())
    owners = {_folded(path): f"{path}, which belongs to the family" for path in layout.fixed}
    for model in models:
        owners |= {_folded(layout.export_marker(model)): f"a file of the model {model}"}
    for model in models:
        for path in (layout.model(model), layout.record(model), layout.export(model)):
            if owner := owners.get(_folded(path)):
                raise ValueError(f"the folder {path} of the variant {model} would be {owner}; rename the variant")
        for other in models:
            if re.fullmatch(rf"{re.escape(model)}-\w+-gguf", other, re.IGNORECASE):
                raise ValueError(f"exports of {model} as GGUF are in the folder {other}; rename the variant {other}")


def _folded(path: Path) -> str:
    """A path as file systems that ignore case compare it."""
    return str(path).lower()
