"""The experiments: every run is a recipe that plans, and a page says what its results say."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import pytest

from experiments.page import Finished, Measured, difference, result_file, write_page
from experiments.run import HERE, RESULTS, by_base, missing, read, recipe_of
from tinyllama import compile_plan

if TYPE_CHECKING:
    from pathlib import Path

    from experiments.page import Experiment

EXPERIMENTS = {path.stem: read(path) for path in HERE.glob("*.yaml") if path.stem != "base"}
COOLDOWN = EXPERIMENTS["cooldown"]
BITS = {"cosine": [2.0, 2.1, 2.2], "constant": [2.11, 2.2, 2.31], "wsd, linear": [2.02, 2.08, 2.21]}


def save(results: Path, run: str, seed: int, value: float) -> None:
    one = Measured({"english": value}, [(2048, {"english": 3.0})], largest_grad_norm=1.5)
    results.mkdir(exist_ok=True)
    result_file(results, run, seed).write_text(json.dumps(asdict(Finished(run, seed, 60.0, {"model": one}))))


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_every_run_plans_the_same_tokens_and_changes_something(experiment: Experiment, tmp_path: Path) -> None:
    recipes = [recipe_of(experiment, run, 2, tmp_path / str(i)) for i, run in enumerate(experiment.runs)]
    names = {*experiment.runs, *(model for recipe in recipes for model in recipe.variants)}
    assert experiment.baseline in names
    assert len({result_file(tmp_path, run, 1) for run in experiment.runs}) == len(experiment.runs)
    tokens = 1.024e6 if experiment.name == "transfer" else 4.1e6
    for recipe in recipes:
        assert recipe.seed == 2
        for model in recipe.variants:
            plan = compile_plan(recipe, model)
            assert plan.tokens_after(plan.steps) == pytest.approx(tokens, rel=0.003)
    assert len({recipe.model_dump_json() for recipe in recipes}) == len(recipes)


def test_a_page_calls_a_difference_below_two_standard_errors_none(tmp_path: Path) -> None:
    for run, values in BITS.items():
        for seed, value in enumerate(values, 1):
            save(tmp_path, run, seed, value)
    write_page(COOLDOWN, tmp_path)
    rows = {line.split(" |")[0]: line for line in (tmp_path / "README.md").read_text().splitlines() if "|" in line}
    change, error = difference(BITS["constant"], BITS["cosine"])
    assert f"2.207 ± 0.100 ({change:+.3f} ± {error:.3f})" in rows["| constant"]
    assert re.search(r"2\.103 ± \d\.\d{3} \(none\)", rows["| wsd, linear"])
    assert (tmp_path / "results.svg").read_text().count("<circle") == 9


def test_what_has_ended_is_not_trained_again(tmp_path: Path) -> None:
    every = list(missing(COOLDOWN, 2, tmp_path))
    assert len(every) == 2 * len(COOLDOWN.runs)
    save(tmp_path, "wsd, linear", 1, 2.0)
    assert set(every) - set(missing(COOLDOWN, 2, tmp_path)) == {("wsd, linear", 1)}


def test_runs_with_the_same_base_train_it_once(tmp_path: Path) -> None:
    save(tmp_path / "cooldown", "constant", 1, 2.0)
    groups = [
        {f"{experiment.name}: {run}" for experiment, run, seed in group}
        for group in by_base(list(EXPERIMENTS.values()), 1, tmp_path, tmp_path)
    ]
    assert sum(map(len, groups)) == sum(len(experiment.runs) for experiment in EXPERIMENTS.values()) - 1
    assert {"cooldown: cosine", "cooldown: cosine, batch x4", "optimizer: adamw, 4e-3"} in groups
    assert {f"cooldown: wsd, {decay}" for decay in ("linear", "1-sqrt", "1-sqrt, batch x4")} in groups
    assert {"fork: fork at half", "ramp: switch", "share: all shares"} < max(groups, key=len)
    assert {"optimizer: muon, 5e-3"} in groups


@pytest.mark.parametrize("experiment", [one for name, one in EXPERIMENTS.items() if (RESULTS / name).is_dir()])
def test_a_committed_page_is_what_its_data_give(experiment: Experiment, tmp_path: Path) -> None:
    committed = RESULTS / experiment.name
    for path in committed.glob("*.json"):
        shutil.copy(path, tmp_path)
    write_page(experiment, tmp_path)
    contents = [{path.name: path.read_bytes() for path in folder.glob("*")} for folder in (tmp_path, committed)]
    assert contents[0] == contents[1]


def test_an_answer_comes_first(tmp_path: Path) -> None:
    save(tmp_path, "cosine", 1, 2.0)
    write_page(replace(COOLDOWN, answer="Raise the batch."), tmp_path)
    assert (tmp_path / "README.md").read_text().splitlines()[2].startswith("Raise the batch. Seen with ")
