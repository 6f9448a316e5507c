"""Whatever is written for the keys of the schema, the result is a plan, or an error with a line for each fault."""

from __future__ import annotations

import copy
import json
import re
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args, get_origin

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from tinyllama.errors import PlanError, RecipeError
from tinyllama.plan import compile_plan
from tinyllama.recipe import Recipe, dump_recipe, load_recipe, shipped_recipes
from tinyllama.recipe.editing import recipe_json_schema
from tinyllama.recipe.quantities import Batch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NANO: dict[str, Any] = yaml.load(shipped_recipes()["nano"].read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506  # it makes text of every scalar
NANO["optimizer"]["betas"] = ["0.9", "0.95"]
NANO["branches"] = {"late": {"from": "base@40K", "stages": [{"name": "own", "until": "70K", "batch": "16 sequences"}]}}
NAMES = {"corpora": "prose", "variants": "v1.1", "branches": "late", "base": "prose"}
"""A name in nano, for each section by name."""

EDITOR = Draft202012Validator(recipe_json_schema())
"""Checks a recipe as editors do."""
RIGHT: dict[type, list[object]] = {
    bool: ["true", "no"],
    int: ["1", "2", "64", "1K", "1e4", "3_000"],
    float: ["1e-4", "0.5", "3"],
    Fraction: ["100%", "50%", "1/3", "0.000000000001%"],
    Batch: ["16 sequences", "1024", "2K sequences"],
    str: ["text", "prose", "no", "s3://bucket/folder"],
}
"""What may be written for a value of a type; it may contradict another key."""
WRONG: list[object] = [
    "-1", "0", "-0", "1e30", "1e18", "100000000000000000000", "9223372036854775808", "2147483648", "1e-50", ".inf",
    ".nan", "yes", "1,5M", "010", "0x10", "1:30", "1.5", "101%", "33.3%", "x" * 200, "", " ", '"\\0"', '"a\\nb"',
    '"\\ud83d"', "null", "1e9999", "con", "BASE", "exports", [], ["1"], {}, {"a": "1"}, [[]], {"": {}},
]  # fmt: skip
"""What is wrong for most keys, as YAML or as a section of YAML."""


MISSING: dict[str, object] = {
    "start": {"model": "somewhere", "tokens": "64"},
    "points": [{}],
    "decay": {"shape": "linear"},
}
"""What stands for a section that nano does not have, before one of its keys is written."""


class Place(NamedTuple):
    """A key of the schema in nano."""

    path: tuple[str | int, ...]
    right: tuple[object, ...]
    """Values of the key's type."""


def places(section: type[BaseModel] = Recipe, path: tuple[str | int, ...] = ()) -> Iterator[Place]:
    """Every key of a section and of the sections inside it, as a place in nano."""
    for name, field in section.model_fields.items():
        yield from _inside(field.annotation, (*path, field.alias or name))


def _inside(annotation: Any, path: tuple[str | int, ...]) -> Iterator[Place]:  # noqa: ANN401  # a type of any kind
    origin, arguments = get_origin(annotation), get_args(annotation)
    kinds = [annotation, *arguments, *(get_args(kind)[0] for kind in arguments if get_origin(kind) is Annotated)]
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    right = words + [value for kind in kinds for value in (RIGHT.get(kind, []) if isinstance(kind, type) else [])]
    yield Place(path, tuple(right))
    deeper: tuple[str | int, ...] = (*path, 0) if origin in {list, tuple} else path
    if origin is dict:
        deeper = (*path, NAMES.get(str(path[0]), "prose") if len(path) == 1 else "prose")
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from places(annotation, path)
    elif deeper != path:
        yield from _inside(arguments[-1], deeper)
    else:
        for argument in arguments:
            if isinstance(argument, type) and issubclass(argument, BaseModel):
                yield from places(argument, path)


PLACES = list(places())
NUMBERS = [place for place in PLACES if {"1e4", "0.5", "50%", "1024"} & {str(value) for value in place.right}]


def changed(recipe: dict[str, Any], path: tuple[str | int, ...], value: object, *, remove: bool = False) -> None:
    """Write or remove one key; places whose section another change has replaced are left as they are."""
    target: Any = recipe
    for part in path[:-1]:
        if isinstance(target, dict) and part not in target:
            target[part] = copy.deepcopy(MISSING.get(str(part), {}))
        try:
            target = target[part]
        except (KeyError, IndexError, TypeError):
            return
    if isinstance(target, dict):
        if remove:
            target.pop(path[-1], None)
        else:
            target[path[-1]] = value
    elif isinstance(target, list) and isinstance(path[-1], int) and path[-1] < len(target):
        target[path[-1]] = value


def written(recipe: dict[str, Any]) -> str:
    """A recipe as YAML, a line for each of its keys; text is written as it is."""
    return "".join(f"{_key(key)}: {_flow(value)}\n" for key, value in recipe.items())


def _flow(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    text = str(value)
    return text if re.fullmatch(r'[\w.%/+,-]+( sequences)?|"[^"]*"', text) and "," not in text else json.dumps(text)


def _key(key: object) -> str:
    return json.dumps(str(key)) if not str(key).isidentifier() else str(key)


def outcome(recipe: dict[str, Any], folder: Path) -> str:
    """`plan`, or the message of the error.

    Raises:
        AssertionError: the error does not name the line of every fault, or a written recipe reads as another one.
    """
    path = folder / "any.yaml"
    path.write_text(written(recipe), encoding="utf-8")
    try:
        loaded = load_recipe(str(path))
    except RecipeError as error:
        refuse_unless_lines(str(error), str(path))
        return str(error)
    for text in (path.read_text(encoding="utf-8"), dump_recipe(loaded)):
        assert not list(EDITOR.iter_errors(yaml.safe_load(text)))
    path.write_text(dump_recipe(loaded), encoding="utf-8")
    assert load_recipe(str(path)) == loaded
    try:
        for model in loaded.models:
            compile_plan(loaded, model)
    except PlanError as error:
        refuse_unless_lines(f"{path}:1: {error}", str(path))
        return str(error)
    return "plan"


def refuse_unless_lines(told: str, path: str) -> None:
    """Each fault is one line, with the place of its key."""
    assert told
    for line in told.splitlines():
        assert re.match(rf"{re.escape(path)}:\d+: \S", line), told
        assert len(line) < 1000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recipes")


CHANGES = st.lists(
    st.sampled_from(PLACES).flatmap(
        lambda place: st.tuples(
            st.just(place.path),
            st.sampled_from([*WRONG, *place.right, *place.right]),
            st.sampled_from(["write", "write", "write", "remove", "add"]),
        )
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(changes=CHANGES)
def test_any_recipe_is_a_plan_or_an_error_with_lines(changes: list[tuple[Any, object, str]], folder: Path) -> None:
    recipe = copy.deepcopy(NANO)
    for path, value, act in changes:
        changed(recipe, (*path[:-1], "another") if act == "add" else path, value, remove=act == "remove")
    outcome(recipe, folder)


@pytest.mark.parametrize("value", [".inf", ".nan", "yes", "1e39", "-1", "010", "1,5M"])
def test_no_number_of_the_schema_is_without_bounds(value: str, folder: Path) -> None:
    assert {place.path[-1] for place in NUMBERS} >= {"seed", "peak", "ramp", "threads", "window", "size", "shard"}
    for place in NUMBERS:
        recipe = copy.deepcopy(NANO)
        changed(recipe, place.path, value)
        key = ".".join(map(str, place.path))
        told = outcome(recipe, folder)
        if place.path == ("seed",) and value == "-1":
            assert told == "plan"  # as torch's generators take it
        else:
            assert f"{key}: " in told, (key, told)


def test_the_recipe_that_is_changed_is_a_plan(folder: Path) -> None:
    assert outcome(copy.deepcopy(NANO), folder) == "plan"
