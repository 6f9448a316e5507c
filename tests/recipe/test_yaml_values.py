"""YAML as text: structure, merges and order are those of PyYAML, and types are left to the schema."""

import json

import pytest
import yaml

from tinyllama.recipe import shipped_recipes
from tinyllama.recipe.yaml_values import YamlError, read_yaml

MERGES = """\
one: &one {b: x, a: y}
two: &two {c: z, a: w}
both: {<<: [*one, *two], d: v, a: own}
late: {d: v, <<: *one}
"""


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_recipe_has_the_structure_that_pyyaml_reads(name: str) -> None:
    text = shipped_recipes()[name].read_text(encoding="utf-8")
    loaded = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506  # it makes text of every scalar, also of null
    assert json.dumps(read_yaml(text)[0]) == json.dumps(loaded).replace('"null"', "null")


def test_merged_keys_have_the_values_that_pyyaml_gives_them_and_the_order_of_its_newer_releases() -> None:
    value, lines = read_yaml(MERGES)
    assert isinstance(value, dict)
    assert value == yaml.safe_load(MERGES)
    # Of several mappings, PyYAML up to 6.0.3 puts the last one's keys first.
    assert ["".join(section or {}) for section in value.values()] == ["ba", "ca", "bacd", "bad"]
    assert (lines["both", "d"], lines["both", "b"]) == (3, 1)


def test_only_what_is_not_quoted_is_nothing() -> None:
    assert read_yaml("a: null\nb: ~\nc:\nd: 'null'\ne: \"\"\nnull: no\n")[0] == {
        "a": None, "b": None, "c": None, "d": "null", "e": "", "null": "no",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["a: {b: 1, b: 2}", "a: &a {b: *a}", "a: !!set {b}", "? [a]\n: b", "a: {<<: b}", "a: [" * 500]
)
def test_what_is_no_recipe_is_refused(text: str) -> None:
    with pytest.raises(YamlError):
        read_yaml(text)
