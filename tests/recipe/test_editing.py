"""The JSON schema accepts what loads and refuses what editors can know; a difference names keys and their effect."""

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.recipe_schema import FILE, text
from tinyllama.recipe import Recipe, dump_recipe, load_recipe, shipped_recipes
from tinyllama.recipe.editing import ChangedKey, differences, recipe_json_schema

SCHEMA = recipe_json_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
NANO = shipped_recipes()["nano"].read_text(encoding="utf-8")


def _faults(recipe: str) -> list[str]:
    """The keys that the schema finds wrong in a recipe."""
    found = VALIDATOR.iter_errors(yaml.safe_load(recipe))
    return sorted({".".join(map(str, error.absolute_path)) for error in found})


def test_the_schema_itself_is_valid_and_the_file_is_the_command() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert FILE.read_text(encoding="utf-8") == text(), "run: python -m tests.recipe_schema"


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_name_the_schema_and_agree_with_it(name: str) -> None:
    written = shipped_recipes()[name].read_text(encoding="utf-8")
    assert written.startswith(f"# yaml-language-server: $schema={FILE.name}\n")
    assert not _faults(written)
    if name != "continue":  # whose model is on the hub
        assert not _faults(dump_recipe(load_recipe(name)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("until: 60K", "until: 60000"),
        ("until: 60K", "until: '60,000'"),
        ("until: 60K", "until: 6e4"),
        ("until: 60K", "until: 6.0e+4"),
        ("batch: 64 sequences", "batch: 4096"),
        ("batch: 64 sequences", "batch: 64 Sequences"),
        ("math_code: {prose: 75%", "math_code: {prose: 3/4"),
        ("peak: 4e-3", "peak: 0.004"),
        ("compile: false", "compile: off"),
        ("compile: false", "compile: 'No'"),
        ("micro_batch: 8", "micro_batch: auto"),
        ("seed: 1", "seed: -1"),
        ("name: nano", "name: 2026"),
        ("logging:\n  tensorboard: false", "logging:"),
        ("minimum: 4e-4", "schedule: wsd\n    minimum: 4e-4\n    decay: linear\n    decay_from: 80%"),
    ],
)
def test_what_loads_is_accepted(tmp_path: Path, old: str, new: str) -> None:
    assert old in NANO
    recipe = NANO.replace(old, new)
    (tmp_path / "a.yaml").write_text(recipe, encoding="utf-8")
    assert load_recipe(str(tmp_path / "a.yaml"))
    assert not _faults(recipe)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("layers: 2", "layer: 2", "model"),
        ("layers: 2", "layers: two", "model.layers"),
        ("layers: 2", "layers: 0", "model.layers"),
        ("until: 60K", "until: 60Q", "stages.0.until"),
        ("{prose: 100%}", "{prose: 100}", "base.prose"),
        ("    peak: 4e-3\n", "", "optimizer.learning_rate"),
        ("compile: false", "compile: maybe", "hardware.compile"),
        ("minimum: 4e-4", "schedule: sine", "optimizer.learning_rate.schedule"),
    ],
)
def test_what_an_editor_can_know_is_refused_with_its_key(tmp_path: Path, old: str, new: str, key: str) -> None:
    assert old in NANO
    recipe = NANO.replace(old, new, 1)
    (tmp_path / "a.yaml").write_text(recipe, encoding="utf-8")
    with pytest.raises(ValueError, match=key.partition(".")[0]):
        Recipe.model_validate(yaml.safe_load(recipe))
    assert key in _faults(recipe)


def test_a_recipe_that_extends_another_may_leave_keys_out_but_not_misspell_them() -> None:
    assert not _faults("extends: nano\nname: wide\nmodel: {width: 128}\noptimizer: {learning_rate: {peak: 2e-3}}\n")
    assert _faults("extends: nano\nmodel: {wide: 128}\n") == ["model"]
    assert _faults("extends: nano\nstages: [{name: a}]\n") == ["stages.0"]


def test_a_model_may_be_imported() -> None:
    model = NANO[NANO.index("model:") : NANO.index("tokenizer:")]
    assert not _faults(NANO.replace(model, "model: imported\n"))
    assert not _faults(NANO.replace(model, "model: {imported: true, context: 128}\n"))
    assert _faults(NANO.replace(model, "model: {context: 128}\n")) == ["model"]


def test_editors_explain_every_key_of_every_section() -> None:
    definitions = SCHEMA["$defs"]
    assert isinstance(definitions, dict)
    for section in (SCHEMA, *definitions.values()):
        assert isinstance(section, dict)
        properties = section.get("properties", {})
        assert isinstance(properties, dict)
        for key, stated in properties.items():
            assert isinstance(stated, dict)
            assert stated["description"], key


def test_equal_recipes_do_not_differ() -> None:
    assert differences(load_recipe("nano"), load_recipe("nano")) == []


def test_a_difference_says_which_keys_decide_the_weights() -> None:
    new = load_recipe(
        "nano",
        [
            "name=other",
            "seed=2",
            "stages.1.until=100K",
            "stages.0.name=first",
            "evaluation.every=10K",
            "corpora.prose.size=1M",
            "corpora.prose.cut=500",
            "base={prose: 90%, code: 10%}",
        ],
    )
    through = "the shares that were in force"
    assert differences(load_recipe("nano"), new) == [
        ChangedKey("name", "nano", "other", decides=False, through=None),
        ChangedKey("seed", 1, 2, decides=True, through=None),
        ChangedKey("corpora.prose.size", 200_000, 1_000_000, decides=False, through=None),
        ChangedKey("corpora.prose.cut", None, 500, decides=True, through="the manifest's hash of each corpus in use"),
        ChangedKey("base.prose", "100%", "90%", decides=True, through=through),
        ChangedKey("stages.0.name", "base", "first", decides=False, through=None),
        ChangedKey("stages.1.until", 90_000, 100_000, decides=True, through=None),
        ChangedKey("evaluation.every", 20_000, 10_000, decides=False, through=None),
        ChangedKey("base.code", None, "10%", decides=True, through=through),
    ]


def test_keys_are_those_that_set_takes() -> None:
    old, new = load_recipe("nano"), load_recipe("mini")
    known = json.loads(json.dumps(new.model_dump(mode="json", by_alias=True)))
    for changed in differences(old, new):
        if changed.new is not None:
            value: object = known
            for part in _split(changed.key, new):
                value = value[int(part)] if isinstance(value, list) else value[part]  # type: ignore[index]
            assert value == changed.new


def _split(key: str, recipe: Recipe) -> list[str]:
    """A dotted key whose names of variants have dots."""
    for name in recipe.variants:
        key = key.replace(f".{name}.", f".{name.replace('.', chr(0))}.")
    return [part.replace(chr(0), ".") for part in key.split(".")]
