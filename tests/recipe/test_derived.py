"""A recipe may leave out what follows from the rest of it."""

from pathlib import Path

import pytest

from tinyllama.errors import RecipeError
from tinyllama.recipe import dump_recipe, load_recipe

SHORT = """
name: short
model: {layers: 2, width: 64, ffn: 172, heads: 4, kv_heads: 2, context: 64}
tokenizer: {train: {vocab_size: 512}}
corpora:
  prose: {sources: [{builtin: docstrings}], held_out: {share: 5%}}
optimizer: {learning_rate: {peak: 4e-3, minimum: 4e-4, warmup: 4K}}
base: {prose: 100%}
stages:
  - {name: base, until: 60K, batch: 16 sequences}
  - {name: more, until: 120K, batch: 16 sequences, fork: true}
variants: {more: {prose: 100%}}
"""


@pytest.fixture
def short(tmp_path: Path) -> Path:
    path = tmp_path / "short.yaml"
    path.write_text(SHORT)
    return path


def test_a_short_recipe_has_all_values(short: Path) -> None:
    recipe = load_recipe(str(short))
    assert recipe.optimizer.learning_rate.horizon == 120_000
    assert recipe.model.vocab_size == 512
    assert (recipe.evaluation.every, recipe.checkpoints.every) == (6_000, 1_200)
    assert recipe.corpora["prose"].size is None
    assert (recipe.license, recipe.corpora["prose"].license) == ("other", "unknown")
    assert recipe.description


def test_the_dump_spells_them_out_so_that_another_rule_does_not_change_them(short: Path, tmp_path: Path) -> None:
    recipe = load_recipe(str(short))
    text = dump_recipe(recipe)
    assert "horizon: 120000" in text
    (tmp_path / "dumped.yaml").write_text(text)
    assert load_recipe(str(tmp_path / "dumped.yaml")) == recipe


@pytest.mark.parametrize(
    ("old", "new", "ids"),
    [
        ("{train: {vocab_size: 512}}", "{builtin: llama2}", 32000),
        (
            "context: 64}\ntokenizer: {train: {vocab_size: 512}}",
            "context: 64, vocab_size: 600}\ntokenizer: {train: {}}",
            600,
        ),
    ],
)
def test_the_number_of_ids_is_stated_once(short: Path, old: str, new: str, ids: int) -> None:
    short.write_text(SHORT.replace(old, new))
    recipe = load_recipe(str(short))
    assert recipe.model.vocab_size == ids
    assert recipe.tokenizer.train is None or recipe.tokenizer.train.vocab_size == ids


def test_what_is_stated_stays(short: Path) -> None:
    overrides = ["optimizer.learning_rate.horizon=200K", "evaluation.every=7K", "checkpoints.every=8K"]
    recipe = load_recipe(str(short), overrides)
    assert recipe.optimizer.learning_rate.horizon == 200_000
    assert (recipe.evaluation.every, recipe.checkpoints.every) == (7_000, 8_000)


def test_a_start_counts_only_the_tokens_after_it(short: Path) -> None:
    recipe = load_recipe(str(short), ["start={model: there, tokens: 40K}"])
    assert (recipe.evaluation.every, recipe.checkpoints.every) == (4_000, 800)
    assert recipe.optimizer.learning_rate.horizon == 120_000


@pytest.mark.parametrize(
    ("old", "new", "faults"),
    [
        ("until: 120K", "until: often", ["stages.1.until: 'often' is not a count"]),
        ("\nstages:\n", "\nstage:\n", ["stages: this key is missing", "stage: unknown key"]),
        ("{train: {vocab_size: 512}}", "{file: here}", ["model.vocab_size: this key is missing"]),
    ],
)
def test_a_fault_is_named_once_and_nothing_derived_from_it(short: Path, old: str, new: str, faults: list[str]) -> None:
    short.write_text(SHORT.replace(old, new))
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(short))
    lines = str(caught.value).splitlines()
    assert len(lines) == len(faults)
    assert all(any(fault in line for line in lines) for fault in faults)
