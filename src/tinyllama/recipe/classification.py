"""Classification of keys by whether they affect a result, and whether they follow from other keys.

Each key is classified once, at its definition in the schema.

A key affects the weights (or, below `corpora`, the prepared corpus) unless its annotation has a marker:

    DECIDES_NOTHING         the key sets where a run is, what it saves, measures and logs, or a name or description
    RepresentedBy("…")      the result depends on the key through another recorded value, e.g. a hash
    Absent(value)           the key affects the result; files without it come from a version that behaved like `value`

So an unmarked key is part of every fingerprint and of every corpus's request. Mark a key that is added later with
`Absent` and the behavior of the versions before it: files then omit the key while it has that value, and old
fingerprints stay unchanged. The default may change later; the value of `Absent` must not.

A key that is marked `Derived` may be left out of a recipe; `with_derived` then gives its value, before validation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from pydantic import BaseModel, JsonValue

from tinyllama.recipe.quantities import LARGEST_COUNT, parse_count
from tinyllama.recipe.section import section_of

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

_Marker = TypeVar("_Marker")
_LLAMA2_IDS = 32000
_MEASUREMENTS, _CHECKPOINTS = 20, 100
"""In a whole training, if the recipe does not say how often."""

_Keys = dict[str, object]  # a section as it was written, before it is checked


@dataclass(frozen=True)
class _DecidesNothing:
    """The key affects neither weights nor a prepared corpus."""


DECIDES_NOTHING: Final = _DecidesNothing()
"""Marks a key, or a whole section, that affects neither weights nor a prepared corpus."""


@dataclass(frozen=True)
class RepresentedBy:
    """Marks a key whose effect is recorded as another value."""

    what: str
    """Description of that value, for readers of the schema."""


@dataclass(frozen=True)
class Absent:
    """Marks a key that affects the result and that older files do not have."""

    value: object
    """The value that corresponds to the behavior of versions without the key."""


@dataclass(frozen=True)
class Derived:
    """Marks a key that follows from others where it is absent."""

    what: str
    """What it follows from, for readers of the documentation."""


def without_absent(section: BaseModel) -> dict[str, JsonValue]:
    """A section's keys that affect the result, as JSON; omits keys that equal their `Absent` value.

    Nested sections, also those in lists and mappings, are treated the same way.
    """
    written = section.model_dump(mode="json")
    return {
        name: _deciding(getattr(section, name), written[name])
        for name, field in type(section).model_fields.items()
        if decides(field) and not _is_absent(field, getattr(section, name))
    }


def decides(field: FieldInfo) -> bool:
    """Whether a key is part of fingerprints and requests."""
    return marker(field, _DecidesNothing) is None and marker(field, RepresentedBy) is None


def marker(field: FieldInfo, kind: type[_Marker]) -> _Marker | None:
    """A key's marker of one kind; None if it has none."""
    return next((item for item in field.metadata if isinstance(item, kind)), None)


def absent_value(schema: type[BaseModel], key: str) -> object:
    """The implied value in a file without `key`: the `Absent` value of a dotted key like `stages.0.ramp`, or None."""
    section: type[BaseModel] | None = schema
    value: object = None
    for part in key.split("."):
        if section is None or part not in section.model_fields:
            continue  # a list index, or the name of a corpus or variant
        field = section.model_fields[part]
        found = marker(field, Absent)
        inherited = getattr(value, part, None) if isinstance(value, BaseModel) else None
        value, section = inherited if found is None else found.value, section_of(field.annotation)
    return value


def with_derived(recipe: _Keys) -> _Keys:
    """A recipe with the keys that it leaves out; what is of no known form is left to the validator.

    The recipe in a family's folder spells them out, so that another version's rule does not change them.
    """
    first, last = _tokens(recipe)
    span = max(1, last - first)
    found = dict(recipe)
    model, tokenizer = _section(recipe, "model"), _section(recipe, "tokenizer")
    training = _section(tokenizer, "train")
    ids = training.get("vocab_size") or (_LLAMA2_IDS if tokenizer.get("builtin") is not None else None)
    if model and ids is not None:
        found["model"] = {"vocab_size": ids} | model
    if isinstance(tokenizer.get("train"), dict) and "vocab_size" in model:
        found["tokenizer"] = tokenizer | {"train": {"vocab_size": model["vocab_size"]} | training}
    optimizer = _section(recipe, "optimizer")
    rate = _section(optimizer, "learning_rate")
    if rate and rate.get("schedule", "cosine") in {"cosine", "wsd"} and rate.get("horizon") is None:
        found["optimizer"] = optimizer | {"learning_rate": rate | {"horizon": last}}
    for name, times in (("evaluation", _MEASUREMENTS), ("checkpoints", _CHECKPOINTS)):
        section = recipe.get(name)
        if section is None or isinstance(section, dict):
            found[name] = {"every": max(1, span // times)} | (section or {})
    return found


def _deciding(value: object, written: JsonValue) -> JsonValue:
    """`written`, the JSON of `value`, without keys in nested sections that do not affect the result."""
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


def _tokens(recipe: _Keys) -> tuple[int, int]:
    """Tokens before the first step and after the last stage; the most possible where the recipe states none."""
    stages = recipe.get("stages")
    final = stages[-1] if isinstance(stages, list) and stages else None
    until = final.get("until") if isinstance(final, dict) else None
    return _count(_section(recipe, "start").get("tokens"), 0), _count(until, LARGEST_COUNT)


def _count(value: object, otherwise: int) -> int:
    try:
        return parse_count(value)
    except ValueError:
        return otherwise


def _section(parent: _Keys, name: str) -> _Keys:
    found = parent.get(name)
    return found if isinstance(found, dict) else {}
