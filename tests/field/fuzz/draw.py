"""Which case a seed and a number stand for."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from tests.field.fuzz.models import family_case, model_case, tokenizer_case
from tests.field.fuzz.options import interrupt_case, option_case
from tests.field.fuzz.recipes import recipe_case
from tests.field.fuzz.requests import request_case
from tests.field.fuzz.sources import source_case

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.field.fuzz.case import Case
    from tests.field.fuzz.template import Files

KINDS = {
    "recipe": 28,
    "source": 18,
    "option": 16,
    "model": 10,
    "tokenizer": 8,
    "family": 12,
    "request": 6,
    "interrupt": 2,
}
"""Kinds of cases, and their percentages."""


_DRAWN: dict[str, Callable[[Random, Files], Case]] = {
    "recipe": lambda random, _files: recipe_case(random),
    "source": lambda random, _files: source_case(random),
    "option": lambda random, _files: option_case(random),
    "model": model_case,
    "tokenizer": tokenizer_case,
    "family": family_case,
    "request": request_case,
    "interrupt": lambda random, _files: interrupt_case(random),
}


def draw(seed: int, number: int, files: Files, kinds: Sequence[str] = tuple(KINDS)) -> tuple[str, Case]:
    """The kind of a case, and the case.

    Args:
        seed: of all cases.
        number: of the case.
        files: the template's, for the kinds that change these.
        kinds: from which to choose.
    """
    random = Random(f"{seed}/{number}")
    (kind,) = random.choices(kinds, [KINDS[name] for name in kinds])
    return kind, _DRAWN[kind](random, files)
