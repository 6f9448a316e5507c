"""A plan tells when checkpoints are evaluated while a model trains."""

from tinyllama.plan import compile_plan, summarize
from tinyllama.plan.tables import measurement_lines, plan_markdown
from tinyllama.recipe import load_recipe

FIRST, WHOLE = [24_576, 40_960, 60_416], [24_576, 40_960, 60_416, 80_896, 106_496, 122_880]
"""With a checkpoint every 8K: the first ones after 20K, 40K, …, and the ends of the base and of the variant."""


def test_the_first_checkpoints_after_so_many_tokens_and_the_last_one_are_measured() -> None:
    recipe = load_recipe("nano", ["evaluation.samples_every=20K"])
    for model, expected in ((None, FIRST), ("v1.1", WHOLE)):
        summary = summarize(compile_plan(recipe, model), recipe)
        assert summary.sampled_at == expected
        assert summary.scored_at == []
        (line,) = measurement_lines(summary)
        assert line.startswith(f"during training, {len(expected)} checkpoints continue the prompts: at 24.58K, 40.96K")


def test_a_checkpoint_that_gets_scores_continues_the_prompts_too() -> None:
    recipe = load_recipe("nano", ["evaluation.samples_every=100K", "evaluation.tasks_every=20K"])
    summary = summarize(compile_plan(recipe, "v1.1"), recipe)
    assert summary.scored_at == summary.sampled_at == WHOLE


def test_a_branch_has_its_own_measurements_alone_and_the_checkpoint_at_its_fork_is_its_parents() -> None:
    recipe = load_recipe("wsd-trunk", ["evaluation.samples_every=1M", "checkpoints.every=1.5M"])
    trunk, early = (summarize(compile_plan(recipe, name), recipe).sampled_at for name in ("base", "early"))
    assert trunk == [recipe.fork_tokens("early"), recipe.fork_tokens("math_code")]
    assert len(early) == 1
    assert early[0] - trunk[0] == recipe.own_tokens("early")


def test_many_checkpoints_are_named_by_the_first_and_the_last() -> None:
    recipe = load_recipe("nano", ["evaluation.samples_every=8K"])
    (line,) = measurement_lines(summarize(compile_plan(recipe, "v1.1"), recipe))
    assert line.endswith(", 40.96K, …, 122.9K tokens")


def test_a_recipe_that_measures_nothing_has_no_line() -> None:
    recipe = load_recipe("nano")
    summary = summarize(compile_plan(recipe, "v1.1"), recipe)
    assert measurement_lines(summary) == []
    assert "checkpoints" not in plan_markdown(summary)
