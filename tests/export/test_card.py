from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tinyllama.export.card import model_card, quick_start
from tinyllama.recipe import Recipe, Start, load_recipe, shipped_recipes

if TYPE_CHECKING:
    from collections.abc import Mapping

TASKS: dict[str, dict[str, float | None]] = {
    "base": {"hellaswag": 0.25, "boolq": 0.5, "piqa": None, "average": 0.375},
    "math_code": {"hellaswag": 0.3125, "boolq": None, "piqa": None, "average": None},
}
BITS = {"base": {"prose": 2.5, "code": 4.0}, "math_code": {"prose": 2.6, "code": 1.23456}}


def card_of(recipe: Recipe, name: str = "math_code", **changes: Any) -> str:  # noqa: ANN401  # any argument
    arguments: Mapping[str, Any] = {
        "plan_summary": "| stage | steps |\n| --- | --- |\n| base | 59 |",
        "bits_per_byte": BITS,
        "tasks": TASKS,
        "tokens": 120_832,
    }
    return model_card(recipe, name, **{**arguments, **changes})


def table_row(card: str, first: str) -> list[str]:
    """Cells of the last row that begins with `first`."""
    line = [line for line in card.splitlines() if line.startswith(f"| {first} |")][-1]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_front_matter_is_what_the_hub_reads(recipe: Recipe) -> None:
    _, front, body = card_of(recipe).split("---\n", maxsplit=2)
    facts = yaml.safe_load(front)
    assert facts["license"] == "apache-2.0"
    assert facts["library_name"] == "transformers"
    assert facts["pipeline_tag"] == "text-generation"
    assert {"llama", "nano"} <= set(facts["tags"])
    assert body.lstrip().startswith("# nano: math_code\n")


def test_the_quick_start_makes_the_published_calls(recipe: Recipe) -> None:
    code = re.search(r"```python\n(.*?)```", card_of(recipe), re.DOTALL)
    assert code is not None
    assert code[1] == quick_start("path/to/nano-math_code", recipe.evaluation.prompts[0], recipe.model.context)
    calls = {ast.unparse(node.func): node for node in ast.walk(ast.parse(code[1])) if isinstance(node, ast.Call)}
    assert "AutoTokenizer.from_pretrained" in calls
    loading = {word.arg: ast.unparse(word.value) for word in calls["transformers.pipeline"].keywords}
    assert loading == {"model": "model", "torch_dtype": "torch.float16", "device_map": "'auto'"}
    sampling = {word.arg: ast.unparse(word.value) for word in calls["pipeline"].keywords}
    assert sampling == {
        "do_sample": "True",
        "top_k": "10",
        "num_return_sequences": "1",
        "repetition_penalty": "1.5",
        "eos_token_id": "tokenizer.eos_token_id",
        "max_length": str(recipe.model.context),
    }


@pytest.mark.parametrize(
    ("overrides", "release"),
    [
        ([], "4.31"),
        (["model.rope_scaling={kind: linear, factor: 2}"], "4.31"),
        (["model.rope_theta=500000"], "4.33"),
        (["model.rope_scaling={kind: llama3, factor: 8}", "model.rope_theta=500000"], "4.43"),
        (["model.head_dim=32"], "4.45"),
    ],
)
def test_the_card_names_the_first_transformers_that_computes_the_shape(overrides: list[str], release: str) -> None:
    card = card_of(load_recipe("nano", overrides))
    assert f"Needs `transformers` ({release} or later) and `accelerate`." in card


def test_the_flagships_card_has_the_published_prompt_and_length() -> None:
    card = card_of(load_recipe("tinyllama-v1.1"), "v1.1", bits_per_byte={}, tasks={})
    assert "'The TinyLlama project aims to pretrain a 1.1B Llama model on 3 trillion tokens. With some" in card
    assert "max_length=500," in card
    assert "The TinyLlama project" not in card_of(load_recipe("mini"), "v1.1", bits_per_byte={}, tasks={})


def test_a_recipe_without_prompts_has_a_neutral_one(recipe: Recipe) -> None:
    evaluation = recipe.evaluation.model_copy(update={"prompts": []})
    assert "    'Once upon a time',\n" in card_of(recipe.model_copy(update={"evaluation": evaluation}))


def test_the_quick_start_takes_any_path() -> None:
    folder = 'C:\\models\\"mine"'
    assigned = ast.parse(quick_start(folder, "the", 64)).body[3]
    assert isinstance(assigned, ast.Assign)
    assert ast.literal_eval(assigned.value) == folder


def test_the_card_tells_what_the_model_was_trained_on(recipe: Recipe) -> None:
    card = card_of(recipe)
    assert "forked from the family's base (trained on 100% prose)" in card
    assert "continued with 75% prose, 15% code, 10% arithmetic" in card
    assert table_row(card, "**math_code**")[0] == "**math_code**"
    assert "| **math_code** | 75% | 15% | 10% |  |" in card
    assert table_row(card, "tokens seen")[1] == "120,832"
    assert table_row(card, "stage cooldown")[1].startswith("until 120K tokens, batch 64 sequences = 4,096 tokens")
    assert "- code: PSF-2.0" in card
    assert "| base | 59 |" in card


def test_the_base_is_told_as_the_base(recipe: Recipe) -> None:
    card = card_of(recipe, "base")
    assert "the family's base, which the variants fork from, trained on 100% prose" in card
    assert "| stage base |" in card
    assert "| stage domain |" not in card


def test_scores_stand_beside_the_published_ones(recipe: Recipe) -> None:
    published = {"Another": {"hellaswag": 61.47, "average": 53.63}}
    card = card_of(recipe, published=published)
    assert table_row(card, "base") == ["base", "25.00", "50.00", "37.50"]
    assert table_row(card, "**math_code**") == ["**math_code**", "31.25", "—", "—"]
    assert table_row(card, "Another (published)") == ["Another (published)", "61.47", "—", "53.63"]
    assert "Not measured for this model: boolq and piqa." in card
    assert "| model | hellaswag | boolq | average |" in card


def test_tasks_that_no_model_was_measured_at_have_no_column(recipe: Recipe) -> None:
    tasks = {model: {"piqa": None, "average": None} for model in ("base", "math_code")}
    card = card_of(recipe, tasks=tasks)
    assert "Zero-shot" not in card
    assert "Not measured for this model: piqa." in card


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_the_optimizer_describes_itself(recipe: Recipe, kind: str) -> None:
    trained = recipe.model_copy(update={"optimizer": recipe.optimizer.model_copy(update={"kind": kind})})
    described = table_row(card_of(trained), "optimizer")[1]
    assert described == trained.optimizer.describe()
    assert ("Muon" in described) == (kind == "muon")


def test_an_imported_model_is_named_without_its_folder(recipe: Recipe) -> None:
    for model, shown in (("/home/me/models/tiny.gguf", "tiny.gguf"), ("TinyLlama/TinyLlama_v1.1", None)):
        start = Start(model=model, tokens=3_000_000)
        card = card_of(recipe.model_copy(update={"start": start}))
        assert f"imported from {shown or model}, counted as 3M tokens" in card


def test_bits_per_byte_are_a_matrix_with_gaps_shown(recipe: Recipe) -> None:
    assert "| **math_code** | 2.600 | 1.235 | — | — |" in card_of(recipe)


def test_a_family_without_scores_has_no_empty_table(recipe: Recipe) -> None:
    assert "Zero-shot" not in card_of(recipe, tasks={})
    assert "Bits per byte" not in card_of(recipe, bits_per_byte={}, tasks={})


def test_the_recipe_in_the_card_is_the_recipe(recipe: Recipe) -> None:
    text = re.search(r"```yaml\n(.*?)```", card_of(recipe), re.DOTALL)
    assert text is not None
    assert Recipe.model_validate(yaml.safe_load(text[1])) == recipe


@pytest.mark.parametrize("shipped", shipped_recipes())
def test_every_model_of_every_shipped_recipe_has_a_card(shipped: str) -> None:
    recipe = load_recipe(shipped)
    for name in ["base", *recipe.variants]:
        card = card_of(recipe, name, bits_per_byte={}, tasks={})
        assert f"# {recipe.name}: {name}" in card
        tables = [line for line in card.splitlines() if line.startswith("| ")]
        assert all(line.endswith(" |") for line in tables)
