"""What Pydantic finds wrong with a recipe, in plain words: one line for each key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from tinyllama.recipe.schema import Recipe
from tinyllama.recipe.section import WrongKey, section_of
from tinyllama.text import did_you_mean, shown

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

    from tinyllama.recipe.yaml_values import Key

_BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}
"""Pydantic's name of an error → words, and the name of the bound in its details."""
_KINDS = {
    "dict_type": "must be a section with keys",
    "list_type": "must be a list",
    "model_type": "must be a section with keys",
    "string_type": "must be text",
    "tuple_type": "must be a list",
}
_OF_THE_KEY = "[key]"
"""Pydantic's last part of the location of a mapping's key, when the key itself is wrong."""

_QUOTED = re.compile("'(.*?)'")


class Fault(NamedTuple):
    """One key that is wrong."""

    key: Key
    text: str
    """The dotted key, what is wrong and what to do."""


def faults(error: ValidationError) -> list[Fault]:
    """What is wrong with each key, in the order of the schema."""
    texts: dict[Key, list[str]] = {}
    for detail in error.errors():
        key = _key(detail)
        texts.setdefault(key, []).append(_explain(detail, key))
    return [Fault(key, f"{_dotted(key)}: {'; '.join(dict.fromkeys(found))}") for key, found in texts.items()]


def _key(detail: ErrorDetails) -> Key:
    """The key that an error is about: that of the section that found it, or one inside it."""
    place, error = detail["loc"], detail.get("ctx", {}).get("error")
    if place[-1:] == (_OF_THE_KEY,):
        return place[:-1]
    return (*place, *error.key) if isinstance(error, WrongKey) else place


def _explain(detail: ErrorDetails, key: Key) -> str:  # noqa: PLR0911  # one return per kind of error
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key{did_you_mean(str(key[-1]), _keys_beside(key), 0.5)}"
    if kind == "missing":
        return f"this {'value' if isinstance(key[-1], int) else 'key'} is missing"
    if value is None and (kind in _KINDS or kind in {"literal_error", "value_error"}):
        return "has no value; write one, or remove the key if it has a default"
    if kind in _BOUNDS:
        word, bound = _BOUNDS[kind]
        limit = context[bound]
        return f"{shown(value)} must be {word} {limit if isinstance(limit, int) else f'{limit:g}'}"
    if kind == "literal_error":
        expected = str(context["expected"])
        return f"{shown(value)} must be {expected}{did_you_mean(str(value), _QUOTED.findall(expected))}"
    if kind in _KINDS:
        return f"{_KINDS[kind]}, not {_kind(value)}"
    if kind == "too_short":
        return "must not be empty"
    if kind == "too_long":
        return f"has {context['actual_length']} values, but at most {context['max_length']} are possible"
    message = detail["msg"].removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]}"


def _dotted(key: Key) -> str:
    parts = (str(part) for part in key)
    return ".".join(part if part.isprintable() else shown(part) for part in parts) or "recipe"


def _keys_beside(key: Key) -> list[str]:
    """The known keys of the section that contains `key`."""
    section: type[BaseModel] | None = Recipe
    for part in key[:-1]:
        if section is not None and part in section.model_fields:
            section = section_of(section.model_fields[str(part)].annotation)
    return [field.alias or name for name, field in section.model_fields.items()] if section is not None else []


def _kind(value: object) -> str:
    if isinstance(value, dict):
        return "a section with keys"
    return "a list" if isinstance(value, list | tuple) else shown(value)
