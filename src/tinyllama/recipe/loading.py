"""Find, read, extend, override and validate a recipe; every error names the file, line and key."""

from __future__ import annotations

import codecs
from contextlib import suppress
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pydantic import ValidationError

from tinyllama.errors import RecipeError, TinyLlamaError
from tinyllama.paths import expand_path
from tinyllama.recipe.faults import faults
from tinyllama.recipe.schema import Recipe
from tinyllama.recipe.yaml_values import YamlError, read_yaml
from tinyllama.text import did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tinyllama.recipe.yaml_values import Key, Value

Places = dict["Key", str]
"""Origin of each key: `file:line` or `--set key=value`."""
_HIDDEN = "logging.notify"
"""The key whose value no message shows."""
_MOST_BYTES = 1 << 20
"""Size of a recipe; a larger file is something else, named by mistake."""
_UTF16 = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE


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
    return parse_recipe(_text(path), path, overrides)


def parse_recipe(text: str, path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe that a text is, as if it were in the file `path`, which need not exist.

    Raises:
        RecipeError: the recipe cannot be read or validated; the message names the file, line and key.
    """
    data, places = _parse(text, path)
    if "extends" in data:
        data, places = _extend(path, data, places)
    _make_section(data)
    for override in overrides:
        key, place = _override(data, override)
        _make_section(data)
        places = _without(places, key) | {key: place}
    _import_shape(data, places)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        lines = [f"{_place(fault.key, places)}: {fault.text}" for fault in faults(error)]
        raise RecipeError("\n".join(lines)) from error


def _namesake(path: Path) -> str:
    """Names a recipe file that differs from a path that is none by its suffix alone; empty if there is none."""
    stem = path.with_suffix("") if path.suffix in {".yaml", ".yml"} else path
    others = (Path(f"{stem}{suffix}") for suffix in (".yaml", ".yml"))
    with suppress(OSError):  # of a name that is too long
        return next((f"; did you mean {other}?" for other in others if other.is_file()), "")
    return ""


def find_recipe(name_or_path: str) -> Path:
    """Path of a recipe that is given by shipped name or by path.

    Raises:
        RecipeError: the recipe does not exist.
    """
    path = expand_path(name_or_path)
    try:
        if path.exists() and not path.is_dir():  # also a pipe, as in `tinyllama plan <(…)`
            return path
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"{shown(name_or_path)}: cannot be read: {_reason(error)}; check the path and its permissions"
        ) from error
    if path.suffix in {".yaml", ".yml"}:
        reason = "is a folder, not a recipe" if path.is_dir() else "no such recipe file"
        raise RecipeError(f"{path}: {reason}{_namesake(path) or '; `tinyllama recipes` lists the shipped ones'}")
    shipped = shipped_recipes()
    if name_or_path not in shipped:
        hint = _namesake(path) or did_you_mean(name_or_path, shipped, 0.5)
        raise RecipeError(f"no recipe is named {name_or_path!r}{hint}; shipped: {', '.join(shipped)}")
    return shipped[name_or_path]


def dump_recipe(recipe: Recipe) -> str:
    """The whole recipe as YAML, including all defaults."""
    return yaml.safe_dump(recipe.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)


def is_dumped_recipe(data: bytes) -> bool:
    """Whether the content of a file is a recipe as `dump_recipe` writes it, not one that a person wrote or edited."""
    try:
        text = data.decode()
        value = yaml.safe_load(text)
    except (UnicodeDecodeError, yaml.YAMLError):
        return False
    dumped: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return isinstance(value, dict) and "stages" in value and dumped == text


def _parse(text: str, path: Path) -> tuple[dict[str, Value], Places]:
    try:
        data, lines = read_yaml(text)
    except YamlError as error:
        raise RecipeError(f"{path}:{error.line}: {error}") from error
    if not isinstance(data, dict):
        raise RecipeError(f"{path}:1: a recipe is a mapping of keys, like `name: my-family`, not {_kind(data)}")
    return data, {(): f"{path}:1"} | {key: f"{path}:{line}" for key, line in lines.items()}


def _text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark, as some editors of Windows write it."""
    try:
        content = _content(path) if path.is_file() else _piped(path)
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {_reason(error)}; check the path and its permissions") from error
    if len(content) > _MOST_BYTES:
        raise RecipeError(f"{path}: is larger than 1 MiB, so it is no recipe; name a YAML file")
    try:
        return content.decode("utf-16" if content.startswith(_UTF16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{path}:{line}: is not UTF-8 text; save the file in UTF-8") from error


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MOST_BYTES + 1)


@cache
def _piped(path: Path) -> bytes:
    """What a pipe holds, which can be read only once."""
    return _content(path)


def _extend(path: Path, data: dict[str, Value], places: Places) -> tuple[dict[str, Value], Places]:
    """Merge a recipe into the one that it extends: mappings merge key by key; other values are replaced."""
    parent, place = data.pop("extends"), places["extends",]
    if not isinstance(parent, str) or "\0" in parent:
        raise RecipeError(f"{place}: extends: must be the name or the path of a recipe, like `extends: nano`")
    try:
        parent_path = _beside(path, parent) or find_recipe(parent)
    except RecipeError as error:
        raise RecipeError(f"{place}: extends: {error}") from error
    parent_data, parent_places = _parse(_text(parent_path), parent_path)
    if "extends" in parent_data:
        raise RecipeError(f"{place}: extends: {parent} itself extends another recipe; only one level is supported")
    for key in _merge(parent_data, data):
        parent_places = _without(parent_places, key)
    return parent_data, parent_places | places


def _make_section(data: dict[str, Value]) -> None:
    """Make `model: imported` a section, so that keys can be set beside it."""
    if data.get("model") == IMPORTED:
        data["model"] = {IMPORTED: "true"}


def _import_shape(data: dict[str, Value], places: Places) -> None:
    """Give a model that is `imported` the shape of `start.model`, below the keys that the recipe states.

    Raises:
        RecipeError: the recipe states no such model, or its shape cannot be read.
    """
    model, start = data.get("model"), data.get("start")
    if not isinstance(model, dict) or model.get(IMPORTED) != "true":
        return
    named = start.get("model") if isinstance(start, dict) else None
    if not isinstance(named, str):
        raise RecipeError(
            f"{_place(('model',), places)}: model: imported uses the shape of start.model, which is missing; add a "
            "start section"
        )
    # By its public name: what opens models stands above recipes, and only these recipes need it.
    from tinyllama import open_model

    try:
        shape = open_model(named).shape.model_dump(exclude_none=True)
    except TinyLlamaError as error:
        raise RecipeError(
            f"{_place(('start', 'model'), places)}: start.model: its shape, which model: imported uses, cannot be "
            f"read: {error}"
        ) from error
    data["model"] = shape | {key: value for key, value in model.items() if key != IMPORTED}


def _beside(path: Path, parent: str) -> Path | None:
    """The file that a recipe extends, if it is named relative to the recipe."""
    beside = path.parent / parent
    try:
        return beside if beside.is_file() else None
    except OSError:  # no name of a file, so perhaps of a shipped recipe
        return None


REPLACED = {"corpora", "base", "variants", "branches", "tokenizer"}
"""Sections that do not merge: a recipe's own section replaces the parent's."""
IMPORTED = "imported"
"""The model whose shape is that of `start.model`."""
# A section that may be absent: `start: null` removes the parent's.
_OPTIONAL = "start"


def _merge(below: dict[str, Value], above: dict[str, Value]) -> list[Key]:
    """Merge a recipe into the one that it extends; returns the keys whose values were replaced as a whole."""
    replaced: list[Key] = []
    for key, value in above.items():
        beneath = below.get(key)
        sections = isinstance(beneath, dict) and key not in REPLACED and not _is_imported(value)
        if isinstance(beneath, dict) and isinstance(value, dict) and sections:
            replaced += [(key, *deeper) for deeper in _merge(beneath, value)]
        elif value is not None or not sections or key == _OPTIONAL:  # an empty section changes nothing
            below[key] = value
            replaced.append((key,))
    return replaced


def _is_imported(section: Value) -> bool:
    return isinstance(section, dict) and IMPORTED in section


def _without(places: Places, key: Key) -> Places:
    """The places of all keys but one and those inside it."""
    return {known: place for known, place in places.items() if known[: len(key)] != key}


def _override(data: dict[str, Value], override: str) -> tuple[Key, str]:
    """Set the key of `key=value`; returns the key, and what messages call its place."""
    name, separator, text = override.partition("=")
    place = f"--set {name if name == _HIDDEN else override}"
    if not separator or not name:
        raise RecipeError(f"{place}: write --set key=value, e.g. --set hardware.micro_batch=4")
    try:
        value, _ = read_yaml(text)
    except YamlError as error:
        raise RecipeError(f"{place}: {error}") from error
    target: Value = data
    key: Key = ()
    rest = name.split(".")
    while rest:
        part, rest = _next_key(target, rest)
        key = (*key, part)
        if isinstance(target, dict):
            present = target.get(str(part))
            target[str(part)] = ({} if present is None else present) if rest else value
            target = target[str(part)]
        elif isinstance(target, list) and isinstance(part, int) and part < len(target):
            target[part] = target[part] if rest else value
            target = target[part]
        else:
            raise RecipeError(f"{place}: there is no {'.'.join(map(str, key))} to set")
    return key, place


def _next_key(target: Value, parts: list[str]) -> tuple[str | int, list[str]]:
    """Split a dotted name into its first key and the rest; a key may itself contain dots (`variants.v1.1`)."""
    if isinstance(target, list) and parts[0].isascii() and parts[0].isdigit():
        return int(parts[0]), parts[1:]
    for end in range(len(parts), 1, -1):
        joined = ".".join(parts[:end])
        if isinstance(target, dict) and joined in target:
            return joined, parts[end:]
    return parts[0], parts[1:]


def _place(key: Key, places: Places) -> str:
    """Where a key, or what should hold it, is written."""
    return next(places[key[:end]] for end in range(len(key), -1, -1) if key[:end] in places)


def _kind(value: Value) -> str:
    return "a list" if isinstance(value, list) else "text" if isinstance(value, str) else "an empty file"


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)
