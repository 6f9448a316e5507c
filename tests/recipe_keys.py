"""The table of keys in docs/recipes.md, made from the schema's docstrings: `python -m tests.recipe_keys` renews it."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel

from tinyllama.recipe import Recipe
from tinyllama.recipe.classification import Derived, marker
from tinyllama.recipe.editing import docstrings
from tinyllama.recipe.quantities import Batch, format_share
from tinyllama.text import markdown_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

PAGE = Path(__file__).parent.parent / "docs/recipes.md"
BEGIN, END = "<!-- keys: written by `python -m tests.recipe_keys` -->\n", "<!-- end of keys -->\n"

NAMES = {
    BaseModel: "section", str: "text", bool: "`true`, `false`", int: "whole number", float: "number",
    Fraction: "percentage", Batch: "batch",
}  # fmt: skip
"""What the types of single values are called; bool stands before int, which it is one of."""


class Key(NamedTuple):
    """One key of a recipe."""

    name: str
    """Dotted; NAME is the name of a corpus or variant, N the place in a list."""
    meaning: str
    """The first sentence of its docstring."""
    value: str
    """What may be written there."""
    default: str
    """`**required**` without one."""


def keys(section: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[Key]:
    """Every key of a section and of the sections inside it, in the schema's order."""
    documented = docstrings(section)
    for name, field in section.model_fields.items():
        inner, place = _inside(field.annotation)
        meaning = first_sentence(documented.get(name, ""))
        yield Key(f"{prefix}{field.alias or name}", meaning, _value(field.annotation), _default(field))
        if inner is not None:
            yield from keys(inner, f"{prefix}{field.alias or name}{place}.")


def first_sentence(text: str) -> str:
    """Up to the first period that ends a sentence, without it."""
    return re.split(r"\.(?:\s+|$)", text, maxsplit=1)[0]


def table() -> str:
    """The whole table, a heading for each section of the recipe."""
    groups: dict[str, list[Key]] = {}
    for key in keys():
        groups.setdefault(key.name.split(".")[0], []).append(key)
    alone = [found[0] for found in groups.values() if len(found) == 1]
    parts = [_markdown(alone)]
    for name, found in groups.items():
        if len(found) > 1:
            parts.append(f"### `{name}`\n\n{found[0].meaning} ({found[0].default}).\n\n{_markdown(found[1:])}")
    return "\n".join(parts)


def page(current: str) -> str:
    """The page with the table as it should be."""
    before, _, rest = current.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def _markdown(found: list[Key]) -> str:
    rows = [[f"`{key.name}`", key.meaning, key.value, key.default] for key in found]
    return markdown_table(["key", "meaning", "value", "default"], rows) + "\n"


def _inside(annotation: object) -> tuple[type[BaseModel] | None, str]:
    """The section inside `X`, `X | None`, `list[X]` or `dict[str, X]`, and how its place is spelled."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    origin = get_origin(annotation)
    place = ".N" if origin is list else ".NAME" if origin is dict else ""
    for argument in get_args(annotation):
        inner, deeper = _inside(argument)
        if inner is not None:
            return inner, place + deeper
    return None, ""


def _value(annotation: object) -> str:
    """What a key's type lets a person write."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        found = _value(arguments[0])
    elif origin is Literal:
        found = ", ".join(f"`{choice}`" for choice in arguments)
    elif origin in {Union, UnionType}:
        found = " or ".join(_value(argument) for argument in arguments if argument is not NoneType)
    elif origin is list:
        found = f"list of {_plural(_value(arguments[0]))}"
    elif origin is dict:
        inner = _value(arguments[1])
        found = f"{inner}, for each name" if inner.endswith("by name") else f"{_plural(inner)} by name"
    elif origin is tuple:
        found = f"{len(arguments)} {_plural(_value(arguments[0]))}"
    else:
        found = next(
            name for kind, name in NAMES.items() if isinstance(annotation, type) and issubclass(annotation, kind)
        )
    return found


def _plural(word: str) -> str:
    return word if word == "text" or word.startswith("`") else f"{word}s"


def _default(field: FieldInfo) -> str:
    if (derived := marker(field, Derived)) is not None:
        return derived.what
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value in ([], {}):
        return "none" if _inside(field.annotation)[0] is None else "optional"
    if isinstance(value, BaseModel):
        return "optional"
    return ", ".join(_written(item) for item in (value if isinstance(value, list | tuple) else [value]))


def _written(value: object) -> str:
    """A default as a recipe would have it."""
    if isinstance(value, Fraction):
        return format_share(value)
    if isinstance(value, bool | str):
        return f"`{str(value).lower()}`"
    assert isinstance(value, int | float)
    return re.sub(r"e-0", "e-", f"{value:g}")


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
