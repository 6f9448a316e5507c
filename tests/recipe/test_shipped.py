"""What the comments of the shipped recipes state."""

import re
import time
from pathlib import Path

import pytest

from tinyllama.corpus.rows import row_count
from tinyllama.layout import BASE
from tinyllama.plan import compile_plan
from tinyllama.plan.hardware import predict
from tinyllama.recipe import load_recipe, shipped_recipes
from tinyllama.sampler import rehearse

DOCS = Path(__file__).parents[2] / "docs" / "recipes.md"
NIGHT = 12.0
"""Hours."""


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_is_planned_in_a_second(name: str) -> None:
    recipe = load_recipe(name)

    def seconds(model: str) -> float:
        began = time.thread_time()
        compile_plan(recipe, None if model == BASE else model)
        return time.thread_time() - began

    for model in recipe.models:
        assert any(seconds(model) < 1 for _ in range(3)), "once in three times, beside other tests that use the memory"


def test_the_docs_list_every_shipped_recipe() -> None:
    section = DOCS.read_text(encoding="utf-8").split("## Shipped recipes")[1].split("\n## ")[0]
    assert sorted(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)) == sorted(shipped_recipes())


@pytest.mark.parametrize(("name", "parameters"), [("smol-135m", 134_515_008), ("llama-360m", 361_821_120)])
def test_small_recipes_have_the_shape_of_smollm2_and_take_one_night_on_one_h100(name: str, parameters: int) -> None:
    recipe = load_recipe(name)
    assert recipe.model.parameters == parameters
    plans = [compile_plan(recipe, model) for model in recipe.planned]
    predicted = predict(recipe, plans, "h100-80g", 1, price=None)
    assert predicted.fits
    assert NIGHT / 2 < sum(span.gpu_hours for span in predicted.spans) <= NIGHT


def test_long_context_continues_the_flagship_at_four_times_its_context() -> None:
    recipe, flagship = load_recipe("long-context"), load_recipe("tinyllama-v1.1")
    plan = compile_plan(recipe, "long")
    assert recipe.model == flagship.model
    assert recipe.final_shape("long").context == 4 * flagship.model.context
    assert int(plan.batch[0]) * int(plan.contexts[0]) == 880 * flagship.model.context


def test_v1_0_has_the_steps_of_its_public_code() -> None:
    recipe = load_recipe("tinyllama-v1.0")
    plan = compile_plan(recipe, "v1.0")
    assert (plan.fork_step, plan.steps) == (715_256, 2 * 715_256)
    rate = recipe.optimizer.learning_rate
    assert (rate.warmup, rate.horizon) == (plan.tokens_after(2_000), plan.tokens_after(plan.steps))
    assert recipe.corpora.keys() == {"slimpajama", "starcoder"}


@pytest.mark.slow
def test_v1_0_is_rehearsed_step_by_step_with_a_64th_of_its_sequences() -> None:
    half = 715_256 * 16 * 2048
    batches = [f"stages.{stage}.batch=16 sequences" for stage in range(2)]
    untils = [f"stages.{stage}.until={(stage + 1) * half}" for stage in range(2)]
    rate = [f"optimizer.learning_rate.{key}" for key in (f"warmup={2_000 * 16 * 2048}", f"horizon={2 * half}")]
    recipe = load_recipe("tinyllama-v1.0", [*batches, *untils, *rate])
    rows = {corpus: row_count(keys.size // 64, 2048) for corpus, keys in recipe.corpora.items()}
    (result,) = rehearse(recipe, rows, ["v1.0"], lambda *_: None)
    assert result.steps == 2 * 715_256
    assert result.passed, result


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in shipped_recipes() if "tinyllama" not in name and name != "continue"])
def test_small_shipped_recipes_are_rehearsed(name: str) -> None:
    recipe = load_recipe(name)
    sizes = {corpus: keys.size for corpus, keys in recipe.corpora.items()}
    partitions = [(sizes[corpus], *pair) for corpus in sizes for pair in recipe.partitions(corpus).items()]
    rows = {partition: row_count(size, context) for size, partition, context in partitions}
    for result in rehearse(recipe, rows, recipe.models[1:], lambda *_: None):
        assert result.passed, result
