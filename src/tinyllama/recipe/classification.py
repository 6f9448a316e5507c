"""Which keys decide a result: each key is classified once, beside its definition in the schema.

A key decides the weights (or, below `corpora`, the prepared corpus) unless its annotation carries a marker:

    DECIDES_NOTHING         where a run is, what it saves, measures and logs; names and descriptions
    RepresentedBy("…")      the result depends on it through something else that is recorded, e.g. a hash
    Absent(value)           it decides, and a file without the key was written by a version that did `value`

So a key that nobody classified is in every fingerprint and in every corpus's request. A key that is added later takes
`Absent`, with what the versions before it did; files then leave the key out while it has that value, and old
fingerprints stay what they are. The default may change later, the value of `Absent` never.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from pydantic import BaseModel, JsonValue

from tinyllama.recipe.section import section_of

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

_Marker = TypeVar("_Marker")


@dataclass(frozen=True)
class _DecidesNothing:
    """Neither weights nor a prepared corpus change with the key."""


DECIDES_NOTHING: Final = _DecidesNothing()
"""Marks a key, or a whole section, with which neither weights nor a prepared corpus change."""


@dataclass(frozen=True)
class RepresentedBy:
    """Marks a key whose effect is recorded as something else."""

    what: str
    """That something, for people who read the schema."""


@dataclass(frozen=True)
class Absent:
    """Marks a key that decides and that older files do not have."""

    value: object
    """What the versions did that wrote files without the key."""


def without_absent(section: BaseModel) -> dict[str, JsonValue]:
    """A section's keys that decide the result, as JSON; a key that has its `Absent` value is left out.

    Sections inside it, in lists and mappings too, are treated alike.
    """
    written = section.model_dump(mode="json")
    return {
        name: _deciding(getattr(section, name), written[name])
        for name, field in type(section).model_fields.items()
        if decides(field) and not _is_absent(field, getattr(section, name))
    }


def decides(field: FieldInfo) -> bool:
    """Whether a key is itself in fingerprints and requests."""
    return marker(field, _DecidesNothing) is None and marker(field, RepresentedBy) is None


def marker(field: FieldInfo, kind: type[_Marker]) -> _Marker | None:
    """A key's marker of one kind; None without."""
    return next((item for item in field.metadata if isinstance(item, kind)), None)


def absent_value(schema: type[BaseModel], key: str) -> object:
    """What a file without `key` means: the `Absent` value of a dotted key like `stages.0.ramp`; None without one."""
    section: type[BaseModel] | None = schema
    value: object = None
    for part in key.split("."):
        if section is None or part not in section.model_fields:
            continue  # the index of a list, or the name of a corpus or variant
        field = section.model_fields[part]
        found = marker(field, Absent)
        inherited = getattr(value, part, None) if isinstance(value, BaseModel) else None
        value, section = inherited if found is None else found.value, section_of(field.annotation)
    return value


def _deciding(value: object, written: JsonValue) -> JsonValue:
    """`written`, the JSON of `value`, without what does not decide in the sections inside it."""
    if isinstance(value, BaseModel):
        return without_absent(value)
    if isinstance(value, list) and isinstance(written, list):
        return [_deciding(item, text) for item, text in zip(value, written, strict=True)]
    if isinstance(value, dict) and isinstance(written, dict):
        return {key: _deciding(item, written[str(key)]) for key, item in value.items()}
    return written


def _is_absent(field: FieldInfo, value: object) -> bool:
    found = marker(field, Absent)
    return found is not None and value == found.value
