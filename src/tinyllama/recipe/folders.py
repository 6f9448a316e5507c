"""Models and corpora whose folders would be the same, or would be what the family's folder holds already."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from tinyllama.layout import BASE, FamilyLayout
from tinyllama.recipe.section import WrongKey

if TYPE_CHECKING:
    from collections.abc import Iterable


def refuse_same_folder(names: Iterable[str]) -> None:
    """Refuse two names that are one folder where the file system ignores case.

    Raises:
        WrongKey: two names differ only in case.
    """
    for name, other in combinations(names, 2):
        if name.lower() == other.lower():
            raise WrongKey(
                f"differs from {name} only in case, which some file systems ignore; choose another name", other
            )


def refuse_taken(variants: Iterable[str]) -> None:
    """Refuse a variant whose folders or files would be those of another model, or of the family.

    Raises:
        WrongKey: such a variant.
    """
    models = [BASE, *variants]
    if BASE in models[1:]:
        raise WrongKey(f"{BASE!r} is the name of the shared base; give the variant another name", BASE)
    refuse_same_folder(models)
    layout = FamilyLayout(Path())
    fixed = {_folded(path) for path in layout.fixed}
    markers = {_folded(layout.export_marker(model)) for model in models}
    for model in models:
        for path in (layout.model(model), layout.record(model)):
            if _folded(path) in fixed:
                raise WrongKey(f"the folder of every family holds {path}; give the variant another name", model)
        if _folded(layout.export(model)) in markers:
            raise WrongKey("the export of another model has a file of this name; give the variant another name", model)
        for other in models:
            if re.fullmatch(rf"{re.escape(other)}-\w+-gguf", model, re.IGNORECASE):
                raise WrongKey(f"this is the folder for GGUF exports of {other}; give the variant another name", model)


def _folded(path: Path) -> str:
    """A path as file systems that ignore case compare it."""
    return str(path).lower()
