"""`tinyllama new` and `tinyllama size`, without a terminal: what was asked, checked; the recipe, written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from tinyllama.design.compose import GENERAL, TEXT, Design, Wishes
from tinyllama.design.shapes import FAMILIES
from tinyllama.design.sizing import Budget
from tinyllama.design.vocabulary import LLAMA2, OWN
from tinyllama.design.writing import recipe_text
from tinyllama.errors import RecipeError, UserError
from tinyllama.files import write_atomic
from tinyllama.layout import BASE
from tinyllama.plan import compile_plan
from tinyllama.recipe import Recipe
from tinyllama.recipe.faults import faults
from tinyllama.recipe.yaml_values import read_yaml
from tinyllama.text import did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")


@dataclass(frozen=True)
class Asked:
    """What was typed."""

    name: str
    text: Sequence[str]
    domain: Sequence[str]
    """Each `NAME=TEXT`."""
    hours: float | None
    tokens: int | None
    epochs: int
    over_training: float
    shapes: str | None
    tokenizer: str | None
    text_field: str


def wishes_of(asked: Asked) -> Wishes:
    """What was asked for, complete and of known words.

    Raises:
        UserError: something is missing, or is no known word; the recipe exists.
    """
    if not _NAME.fullmatch(asked.name):
        raise UserError(f"{shown(asked.name)} is no name of a family; use letters, digits, `_`, `.` and `-`")
    path = Path(f"{asked.name}.yaml")
    if path.exists():
        raise UserError(f"{path} exists, and is not overwritten; choose another name, or move the file")
    if not asked.text:
        raise UserError("no text is given; name files, a folder or a URL with --text")
    budget_of(asked.hours, asked.tokens, asked.over_training, asked.shapes)
    if asked.tokenizer not in {None, OWN, LLAMA2}:
        raise UserError(f"no kind of tokenizer is {shown(asked.tokenizer)}; write --tokenizer own or llama2")
    return Wishes(
        name=asked.name,
        text=tuple(asked.text),
        domains=_domains(asked.domain),
        hours=asked.hours,
        tokens=asked.tokens,
        epochs=asked.epochs,
        over_training=asked.over_training,
        family=asked.shapes,
        tokenizer=asked.tokenizer,
        text_field=asked.text_field,
    )


def budget_of(hours: float | None, tokens: int | None, over_training: float, family: str | None) -> Budget:
    """Hours or tokens.

    Raises:
        UserError: both or neither are given, or there is no such family of shapes.
    """
    if (hours is None) == (tokens is None):
        raise UserError("no budget is given, or two; write either --hours or --tokens")
    if family is not None and family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise UserError(f"no family of shapes is {shown(family)}{did_you_mean(family, FAMILIES)}; known: {known}")
    return Budget(None if hours is None else hours * 3600, tokens, over_training=over_training, family=family)


def write_recipe(design: Design, folder: Path) -> Path:
    """Write the recipe to a folder; returns its path.

    Raises:
        RecipeError: the recipe is refused, e.g. for a name.
        UserError: the file exists.
    """
    text = recipe_text(design)
    check_recipe(text)
    path = folder / f"{design.wishes.name}.yaml"
    if path.exists():
        raise UserError(f"{path} was written meanwhile, and is not overwritten; move it, and run the command again")
    write_atomic(path, text)
    return path


def check_recipe(text: str) -> None:
    """Read a recipe and compile its plans.

    Raises:
        RecipeError: a key is refused.
        PlanError: a model cannot be planned.
    """
    try:
        recipe = Recipe.model_validate(read_yaml(text)[0])
    except ValidationError as error:
        lines = [fault.text for fault in faults(error)]
        raise RecipeError("\n".join(lines)) from error
    for model in recipe.models:
        compile_plan(recipe, None if model == BASE else model)


def _domains(given: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """`code=src`, `code=lib`, `math=…` → the texts of each domain."""
    found: dict[str, tuple[str, ...]] = {}
    for item in given:
        name, separator, text = item.partition("=")
        if not (separator and text and _NAME.fullmatch(name)):
            raise UserError(f"--domain {shown(item)} is not NAME=TEXT; write it like --domain code=src")
        if name in {TEXT, GENERAL, BASE}:
            raise UserError(f"--domain {shown(item)}: {name} is a name that the recipe uses itself; choose another")
        found[name] = (*found.get(name, ()), text)
    return found
