"""A corpus is prepared again where a key that decides its content changed, and nowhere else."""

from pathlib import Path
from typing import Annotated, Any

import pytest

from tinyllama.corpus.manifest import open_corpus
from tinyllama.prepare.job import present_corpus
from tinyllama.prepare.prepare import corpus_request
from tinyllama.recipe import Corpus, HeldOut, Recipe, Source, load_recipe
from tinyllama.recipe.classification import Absent, absent_value, decides, marker

LEGACY = Path(__file__).parents[1] / "legacy/family-4bd9be0"
OTHER = {
    "Source": {"files": "other.jsonl", "text_field": "body", "where": "len(text) > 3", "limit": 7},
    "HeldOut": {"share": "11%", "by": "block", "block": 3},
    "Corpus": {
        "filters": {"min_characters": 3},
        "pii": "mask",
        "decontaminate": ["piqa"],
        "deduplicate": "exact",
        "cut": 123,
        "size": 5,
        "max_damaged": "50%",
        "license": "another",
    },
}
"""For each key a value that the recipe of the old family does not have."""
ELSEWHERE = {"sources", "held_out"}
"""Keys whose own keys are in the table."""


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe(str(LEGACY / "legacy.yaml"))


def with_source(recipe: Recipe, source: dict[str, Any]) -> Recipe:
    corpus = recipe.corpora["sums"]
    sources = [Source.model_validate(corpus.sources[0].model_dump(mode="json") | source)]
    return recipe.model_copy(update={"corpora": {"sums": corpus.model_copy(update={"sources": sources})}})


def with_key(recipe: Recipe, section: str, key: str, value: object) -> Recipe:
    if section == "Source":
        return with_source(recipe, {key: value})
    corpus = recipe.corpora["sums"].model_dump(mode="json")
    place = corpus if section == "Corpus" else corpus["held_out"]
    place[key] = value
    return recipe.model_copy(update={"corpora": {"sums": Corpus.model_validate(corpus)}})


def is_present(recipe: Recipe) -> bool:
    folder = LEGACY / "runs/legacy/corpora/sums"
    tokenizer = open_corpus(folder).manifest.request.tokenizer
    return present_corpus(folder, corpus_request(recipe, "sums", tokenizer)) is not None


def test_a_corpus_that_4bd9be0_prepared_is_present(recipe: Recipe) -> None:
    assert is_present(recipe)


@pytest.mark.parametrize(
    ("section", "key"),
    [
        (section.__name__, key)
        for section in (Source, HeldOut, Corpus)
        for key in section.model_fields
        if key not in ELSEWHERE | {"builtin"}
    ],
)
def test_every_key_makes_another_corpus_unless_it_decides_nothing(recipe: Recipe, section: str, key: str) -> None:
    schema = {"Source": Source, "HeldOut": HeldOut, "Corpus": Corpus}[section]
    field = schema.model_fields[key]
    assert is_present(with_key(recipe, section, key, OTHER[section][key])) != decides(field)
    if marker(field, Absent) is not None:
        assert is_present(with_key(recipe, section, key, absent_value(schema, key)))


def test_a_builtin_source_makes_another_corpus(recipe: Recipe) -> None:
    assert not is_present(with_source(recipe, {"builtin": "arithmetic", "files": None, "where": None}))


@pytest.mark.parametrize("key", ["bos", "eos"])
def test_another_policy_makes_another_corpus(recipe: Recipe, key: str) -> None:
    tokenizer = recipe.tokenizer.model_copy(update={key: False})
    assert not is_present(recipe.model_copy(update={"tokenizer": tokenizer}))


def test_a_key_that_is_added_later_is_absent_from_requests_until_it_is_set(recipe: Recipe) -> None:
    class Later(Source):
        language: Annotated[str | None, Absent(None)] = None

    def with_language(language: str | None) -> Recipe:
        source = Later(files="text/sums.jsonl", where="len(text) > 20", language=language)
        corpus = recipe.corpora["sums"].model_copy(update={"sources": [source]})
        return recipe.model_copy(update={"corpora": {"sums": corpus}})

    assert is_present(with_language(None))
    assert not is_present(with_language("zh"))
