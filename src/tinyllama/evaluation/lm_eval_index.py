"""The names of lm-eval's tasks and the folders that define them, without its index, which takes ten seconds to read."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_NAME = rb"""["']?([\w.:-]+)["']?"""
_DEFINED = re.compile(rb"""^[ \t-]*["']?(?:task|group|tag)["']?:[ \t]*""" + _NAME, re.MULTILINE)
_TAGS = re.compile(rb"""^["']?(?:tag|task)["']?:[ \t]*\n((?:[ \t]*-[ \t]*[^\n]*\n?)+)""", re.MULTILINE)
_ITEM = re.compile(rb"-[ \t]*" + _NAME + rb"[ \t]*$", re.MULTILINE)


def lm_eval_folder() -> Path | None:
    """Folder of lm-eval's definitions; None if it is not installed."""
    spec = find_spec("lm_eval")
    places = list(spec.submodule_search_locations or []) if spec is not None else []
    return Path(places[0]) / "tasks" if places else None


@cache
def definitions(folder: Path) -> dict[str, set[Path]]:
    """Name of a task, group or tag → the folders directly below `folder` that name it; `folder` for its own files."""
    found = defaultdict[str, set[Path]](set)
    for path in folder.rglob("*.yaml"):
        below = path.relative_to(folder).parts
        text = path.read_bytes().replace(b"\r", b"")
        names = {*_DEFINED.findall(text), *(name for items in _TAGS.findall(text) for name in _ITEM.findall(items))}
        for name in names:
            found[name.decode(errors="replace")].add(folder / below[0] if len(below) > 1 else folder)
    return dict(found)
