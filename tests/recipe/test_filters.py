from typing import Any

import pytest

from tinyllama.errors import RecipeError
from tinyllama.recipe import Filter, load_recipe

FIELDS: dict[str, Any] = {"text": "four", "meta.set": "Books", "meta_set": "other", "stars": 3, "lang": "Python"}


@pytest.mark.parametrize(
    ("expression", "kept"),
    [
        ('meta.set != "GitHub"', True),
        ('meta.set in ["GitHub", "Wiki"]', False),
        ('meta_set == "other" and meta.set == "Books"', True),
        ("len(text) >= 4 and not stars < 3", True),
        ("1 < stars <= 2", False),
        ('lower(lang) == "python"', True),
        ("missing is None or missing == 1", True),
        ("stars", True),
    ],
)
def test_a_filter_compares_fields(expression: str, kept: bool) -> None:  # noqa: FBT001  # pytest passes it
    assert Filter(expression).keeps(FIELDS.get) is kept


def test_a_filter_names_the_fields_it_looks_up() -> None:
    assert Filter("a.b.c == 1 and len(text) > d").fields == {"a.b.c", "text", "d"}


@pytest.mark.parametrize(
    "expression",
    [
        "", "a ==", "a = 1", "f(a)", "text.upper()", "().__class__", "[x for x in a]", "a if b else c", "lambda: 1",
        "a[0]", "__import__('os')", "(a := 1)", "a ** 9", "len(text, key=1)", "{1: 2}", "f'{a}'", "a; b", "len()",
        "len(a, b)",
        "not " * 2000 + "a", "-" * 9000 + "1", "a" + ".a" * 4000, "(" * 300 + "a" + ")" * 300, "a\0", "\ud83d == 1",
    ],
)  # fmt: skip
def test_what_acts_is_no_filter(expression: str) -> None:
    with pytest.raises(ValueError, match="use names of fields"):
        Filter(expression)


def test_an_expression_has_a_longest_length_and_no_warnings() -> None:
    assert not Filter('a is "b"').keeps({"a": "c"}.get)
    with pytest.raises(ValueError, match="at most 10000"):
        Filter("a" * 10_001)


def test_a_value_that_cannot_be_compared_is_said() -> None:
    with pytest.raises(ValueError, match="`where` has no value here"):
        Filter("missing < 3").keeps(FIELDS.get)


def test_a_recipe_with_a_bad_filter_names_the_key() -> None:
    with pytest.raises(RecipeError, match=r"corpora\.prose\.sources\.0\.where.*no expression"):
        load_recipe("nano", ["corpora.prose.sources=[{files: a, where: 'x =='}]"])
