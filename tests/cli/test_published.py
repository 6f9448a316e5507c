"""What `plan` says of published rules: tokens per parameter, peak, batch, and the size of a checkpoint."""

from __future__ import annotations

import json
from functools import cache

import pytest
from typer.testing import CliRunner

from tinyllama.cli.commands import app
from tinyllama.cli.planning.published import Published, compare_with_published, fit_line, tokens_line
from tinyllama.plan import PlanSummary, compile_plan, summarize
from tinyllama.recipe import Recipe, load_recipe

MUP = ("parametrization=mup", "base_width=32", "model.tied_embeddings=false")
CONSTANT = ("optimizer.learning_rate={schedule: constant, peak: 1e-3, warmup: 1K}",)


@cache
def planned(name: str, variant: str, *overrides: str) -> tuple[Recipe, PlanSummary, Published]:
    recipe = load_recipe(name, overrides)
    summary = summarize(compile_plan(recipe, variant), recipe)
    return recipe, summary, compare_with_published(summary, recipe)


def line(name: str, variant: str, *overrides: str) -> str:
    recipe, summary, found = planned(name, variant, *overrides)
    return fit_line(found, summary, recipe)


def test_tokens_per_parameter_stand_beside_the_compute_optimal_ones() -> None:
    assert tokens_line(planned("tinyllama-v1.1", "math_code")[2]) == (
        "tokens per parameter: 1,818 (91 times the compute-optimal 20)"
    )
    assert tokens_line(planned("nano", "v1.1")[2]) == (
        "tokens per parameter: 0.79 (0.039 times the compute-optimal 20)"
    )


def test_peak_and_batch_stand_beside_those_of_the_fit_for_flops_without_embeddings() -> None:
    _, summary, found = planned("tinyllama-v1.1", "math_code")
    matrices = 22 * (2 * 2048 * (2048 + 256) + 3 * 2048 * 5632)
    assert found.flops_without_embeddings == summary.tokens * (6 * matrices + 6 * 22 * 2048 * 2048)
    assert line("tinyllama-v1.1", "math_code") == (
        "for 1.3e+22 FLOPs without embeddings, DeepSeek's fit gives a peak of 5.4e-04 and a batch of 5M tokens "
        "(the recipe: 4.0e-04, 1.8M)"
    )


def test_each_stages_flops_are_those_of_its_context() -> None:
    recipe, summary, found = planned("nano", "v1.1", "stages.1.context=128")
    assert len({stage.context for stage in summary.stages}) == 2
    shape = recipe.model
    assert found.flops_without_embeddings == sum(
        (stage.tokens_after - stage.tokens_before)
        * 6 * (shape.block_matrices + shape.layers * shape.attention_width * stage.context)
        for stage in summary.stages
    )  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "why", "peak"),
    [(MUP, "muP, whose peak does not depend on the size", "4.0e-03"), (CONSTANT, "the schedule constant", "1.0e-03")],
)
def test_no_peak_is_fitted_for_trainings_that_the_fit_does_not_cover(
    overrides: tuple[str, ...], why: str, peak: str
) -> None:
    assert planned("nano", "v1.1", *overrides)[2].fitted_peak is None
    assert line("nano", "v1.1", *overrides).endswith(f"its peak is not for {why} (the recipe: {peak})")


def test_a_branch_has_the_schedule_of_its_own_line() -> None:
    assert "for the schedule constant" in line("wsd-trunk", "base")
    assert "for the schedule wsd (the recipe: 2.0e-03)" in line("wsd-trunk", "math_code")


def test_plan_prints_these_lines_and_its_json_has_the_figures() -> None:
    words = ["plan", "nano", "--variant", "v1.1"]
    shown = CliRunner().invoke(app, words, catch_exceptions=False)
    recipe, summary, found = planned("nano", "v1.1")
    lines = shown.stdout.splitlines()
    assert "model: 156,480 parameters; a checkpoint: 1.9 MB on disk" in lines
    assert tokens_line(found) in lines
    assert fit_line(found, summary, recipe) in lines
    told = json.loads(CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False).stdout)
    assert told[0]["published"] == found.as_dict()
    assert found.checkpoint_bytes == 12 * 156_480


def test_plan_says_how_to_see_the_time_where_it_shows_none() -> None:
    words = ["plan", "nano", "--variant", "v1.1"]
    assert "--hardware here measures it" in CliRunner().invoke(app, words, catch_exceptions=False).stderr
    predicted = CliRunner().invoke(app, [*words, "--hardware", "h100"], catch_exceptions=False)
    assert "measures it" not in predicted.output
    assert CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False).stderr == ""
