"""The keys in which two recipes differ, and which of them decide the trained weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinyllama.recipe.classification import RepresentedBy, decides, marker
from tinyllama.recipe.schema import Recipe
from tinyllama.recipe.section import section_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel, JsonValue

    from tinyllama.recipe.yaml_values import Key


@dataclass(frozen=True)
class ChangedKey:
    """A key that two recipes have different values for."""

    key: str
    """Dotted, as `--set` takes it."""
    old: JsonValue
    """Its value in the first recipe; None also where it is absent."""
    new: JsonValue
    """Its value in the second recipe."""
    decides: bool
    """Whether the trained weights depend on it; a family does not resume with another value."""
    through: str | None
    """What the weights depend on instead of the key itself, such as the hash of a file."""


def differences(old: Recipe, new: Recipe) -> list[ChangedKey]:
    """The keys in which two recipes differ, in the order of the first, defaults included."""
    before, after = (dict(_values(recipe.model_dump(mode="json", by_alias=True))) for recipe in (old, new))
    changed = [key for key in before | after if before.get(key) != after.get(key)]
    return [ChangedKey(_dotted(key), before.get(key), after.get(key), *_effect(key)) for key in changed]


def _values(value: JsonValue, key: Key = ()) -> Iterator[tuple[Key, JsonValue]]:
    """The values inside a section; a list of plain values is one value."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _values(inner, (*key, name))
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, inner in enumerate(value):
            yield from _values(inner, (*key, index))
    else:
        yield key, value


def _effect(key: Key) -> tuple[bool, str | None]:
    """Whether a key decides the weights, and through what; the last marker on its path says."""
    section: type[BaseModel] | None = Recipe
    through = None
    for part in key:
        names = {} if section is None else {field.alias or name: field for name, field in section.model_fields.items()}
        if part not in names:
            continue  # a list index, or the name of a corpus or model
        field = names[str(part)]
        if (found := marker(field, RepresentedBy)) is not None:
            through = found.what
        elif not decides(field):
            return False, None
        section = section_of(field.annotation)
    return True, through


def _dotted(key: Key) -> str:
    return ".".join(map(str, key))
