"""Find, read, extend, override and validate a recipe; every error names the file, line and key."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import yaml
from pydantic import BaseModel, JsonValue, ValidationError

from tinyllama.errors import RecipeError
from tinyllama.paths import expand_path
from tinyllama.recipe.schema import Recipe
from tinyllama.recipe.section import section_of
from tinyllama.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic_core import ErrorDetails

Section: TypeAlias = dict[str, JsonValue]
"""A mapping as read from YAML, before validation."""
Key = tuple[str | int, ...]
Places = dict[Key, str]
"""Origin of each key: `file:line` or `--set key=value`."""


def shipped_recipes() -> dict[str, Path]:
    """The recipes in the package, by name."""
    folder = Path(str(files("tinyllama") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_recipe(name_or_path: str, overrides: Iterable[str] = ()) -> Recipe:
    """Load a recipe by shipped name or path, with `key.path=value` overrides.

    Raises:
        RecipeError: the recipe cannot be found, read or validated; the message names the file, line and key.
    """
    path = find_recipe(name_or_path)
    data, places = _read(path)
    if "extends" in data:
        data, places = _extend(path, data, places)
    for override in overrides:
        _override(data, places, override)
    return _validate(data, places, path)


def find_recipe(name_or_path: str) -> Path:
    """Path of a recipe that is given by shipped name or by path.

    Raises:
        RecipeError: the recipe does not exist.
    """
    path = expand_path(name_or_path)
    is_there = path.exists() and not path.is_dir()  # a file, or a pipe: `<(…)`, /dev/stdin
    if path.suffix in {".yaml", ".yml"} or is_there:
        if is_there:
            return path
        raise RecipeError(f"{path}: no such recipe file")
    shipped = shipped_recipes()
    if name_or_path not in shipped:
        hint = did_you_mean(name_or_path, shipped, 0.5)
        raise RecipeError(f"no recipe is named {name_or_path!r}{hint}; shipped: {', '.join(shipped)}")
    return shipped[name_or_path]


def dump_recipe(recipe: Recipe) -> str:
    """The whole recipe as YAML, including all defaults."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def is_dumped_recipe(data: bytes) -> bool:
    """Whether the content of a file is a recipe as `dump_recipe` writes it, not one that a person wrote or edited."""
    try:
        text = data.decode()
        value = yaml.safe_load(text)
    except (UnicodeDecodeError, yaml.YAMLError):
        return False
    dumped: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return isinstance(value, dict) and "stages" in value and dumped == text


def _read(path: Path) -> tuple[Section, Places]:
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else _read_pipe(path)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise RecipeError(f"{where}: not valid YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(data, dict):
        raise RecipeError(f"{path}:1: a recipe is a mapping of keys, not {type(data).__name__}")
    places: Places = {(): f"{path}:1"}
    _locate(node, (), path, places)
    return data, places


@cache
def _read_pipe(path: Path) -> str:
    """The content of what can be read only once."""
    return path.read_text(encoding="utf-8")


def _locate(node: yaml.Node | None, key: Key, path: Path, places: Places) -> None:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            child = (*key, str(name.value))
            if child in places and not key:
                raise RecipeError(f"{path}:{name.start_mark.line + 1}: key {name.value!r} is written twice")
            places[child] = f"{path}:{name.start_mark.line + 1}"
            _locate(value, child, path, places)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            places[*key, index] = f"{path}:{value.start_mark.line + 1}"
            _locate(value, (*key, index), path, places)


def _extend(path: Path, data: Section, places: Places) -> tuple[Section, Places]:
    """Merge a recipe into the one that it extends: mappings merge key by key; other values are replaced."""
    parent = str(data.pop("extends"))
    beside = path.parent / parent
    parent_path = beside if beside.is_file() else find_recipe(parent)
    parent_data, parent_places = _read(parent_path)
    if "extends" in parent_data:
        raise RecipeError(
            f"{places['extends',]}: extends: {parent} itself extends another recipe; only one level is supported"
        )
    _merge(parent_data, data)
    return parent_data, parent_places | places


# Sections that do not merge: a recipe's own section replaces the parent's.
_WHOLE = {"corpora", "base", "variants", "tokenizer"}


def _merge(below: Section, above: Section) -> None:
    for key, value in above.items():
        beneath = below.get(key)
        if isinstance(value, dict) and isinstance(beneath, dict) and key not in _WHOLE:
            _merge(beneath, value)
        else:
            below[key] = value


def _override(data: Section, places: Places, override: str) -> None:
    name, separator, text = override.partition("=")
    place = f"--set {override}"
    if not separator or not name:
        raise RecipeError(f"{place}: write --set key=value, e.g. --set hardware.micro_batch=4")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{place}: the value is not valid YAML") from error
    target: JsonValue = data
    key: Key = ()
    rest = name.split(".")
    while rest:
        part, rest = _next_key(target, rest)
        key = (*key, part)
        if isinstance(target, dict):
            target[str(part)] = target.get(str(part), {}) if rest else value
            target = target[str(part)]
        elif isinstance(target, list) and isinstance(part, int) and part < len(target):
            target[part] = target[part] if rest else value
            target = target[part]
        else:
            raise RecipeError(f"{place}: there is no {'.'.join(map(str, key))} to set")
    places[key] = place


def _next_key(target: JsonValue, parts: list[str]) -> tuple[str | int, list[str]]:
    """Split a dotted name into its first key and the rest; a key may itself contain dots (`variants.v1.1`)."""
    if isinstance(target, list) and parts[0].isdigit():
        return int(parts[0]), parts[1:]
    for end in range(len(parts), 1, -1):
        joined = ".".join(parts[:end])
        if isinstance(target, dict) and joined in target:
            return joined, parts[end:]
    return parts[0], parts[1:]


def _validate(data: Section, places: Places, path: Path) -> Recipe:
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        lines = [_explain(detail, places, path) for detail in error.errors()]
        raise RecipeError("\n".join(lines)) from error


def _explain(detail: ErrorDetails, places: Places, path: Path) -> str:
    key = tuple(part for part in detail["loc"] if not _is_type_tag(part))
    place = next((places[key[:n]] for n in range(len(key), -1, -1) if key[:n] in places), str(path))
    name = ".".join(map(str, key)) or "recipe"
    if detail["type"] == "extra_forbidden":
        return f"{place}: {name}: unknown key{did_you_mean(str(key[-1]), _keys_beside(key), 0.5)}"
    if detail["type"] == "missing":
        return f"{place}: {name}: this key is missing"
    message = detail["msg"].removeprefix("Value error, ")
    return f"{place}: {name}: {message[0].lower()}{message[1:]}"


def _is_type_tag(part: str | int) -> bool:
    """Drop the union members that Pydantic adds to a location: `constrained-int`, `literal['auto']`."""
    return isinstance(part, str) and ("[" in part or part.startswith("constrained-"))


def _keys_beside(key: Key) -> list[str]:
    """The known keys of the section that contains `key`."""
    section: type[BaseModel] | None = Recipe
    for part in key[:-1]:
        if section is not None and part in section.model_fields:
            section = section_of(section.model_fields[str(part)].annotation)
    return list(section.model_fields) if section is not None else []
