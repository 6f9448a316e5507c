"""docs/recipes.md lists every key of the schema with its docstring, value and default."""

import re

import pytest

from tests.recipe_keys import BEGIN, END, PAGE, Key, keys, page

KEYS = list(keys())
UNITS = re.compile(
    r"\b(tokens|sequences|rows|characters|seconds|ranks|threads|updates|checkpoints|pieces|ids|standard deviations"
    r"|percentage|learning rate|number of|dimension|seed|base of|epsilon|decay|norm)\b",
    re.IGNORECASE,
)


def test_the_page_is_what_the_schema_says() -> None:
    current = PAGE.read_text(encoding="utf-8")
    assert BEGIN in current
    assert END in current
    assert page(current) == current, "run: python -m tests.recipe_keys"


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_every_key_says_what_it_means_and_in_what_unit(key: Key) -> None:
    assert key.meaning, f"{key.name} has no docstring"
    assert "|" not in key.meaning
    if re.search("whole number|^number|numbers|percentage", key.value):
        assert UNITS.search(key.meaning) or "share" in key.meaning.lower(), f"{key.name} has no unit: {key.meaning}"


def test_required_keys_are_marked() -> None:
    required = {key.name for key in KEYS if key.default == "**required**"}
    assert {"name", "model.layers", "optimizer.learning_rate.peak", "stages.N.until", "start.model"} <= required
    assert not {"seed", "start", "hardware.micro_batch"} & required
