"""Run the experiments on choices of recipes, and write a page of each: python -m experiments.run [NAME ...].

An experiment is a YAML file beside this one: a question, and runs that each change some keys of base.yaml. Every run is
a family, trained with seeds 1 to --seeds or to the file's own number, or with seed 1 alone if the file lists it in
`once`. A run that has ended leaves a small JSON file in docs/results/NAME/ and its page is written again; a run that
was stopped resumes. Runs whose bases are the same train it once, and runs of the same recipe are trained once. --jobs
trains so many runs at a time, each with its part of the cores. --draw writes the pages of what has ended, and trains
nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from experiments.page import Experiment, Finished, Measured, result_file, write_page
from tinyllama import Family, compile_plan, load_recipe
from tinyllama.checkpoint.fingerprint import fingerprint_inputs
from tinyllama.files import write_atomic
from tinyllama.layout import BASE, FamilyLayout
from tinyllama.processors import available_cores
from tinyllama.train.metrics import HeldOutRecord, StepRecord, read_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tinyllama.recipe import Recipe
    from tinyllama.train.metrics import Record

HERE = Path(__file__).parent
RESULTS = HERE.parent / "docs" / "results"


def main() -> None:
    """Run what is missing of the experiments, and write their pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of an experiment (default: all)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=available_cores(), help="runs at a time (default: one per core)")
    parser.add_argument("--folder", type=Path, default=Path("runs/experiments"), help="of the families")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results and pages")
    parser.add_argument("--draw", action="store_true", help="write the pages of what has ended")
    asked = parser.parse_args()
    # Evaluations use all cores: threads that spin while they wait would take them from the other jobs.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    paths = [path for path in sorted(HERE.glob("*.yaml")) if path.stem != BASE]
    experiments = [read(path) for path in paths if not asked.names or path.stem in asked.names]
    if not asked.draw:
        Family(load_recipe(str(HERE / "base.yaml")), asked.folder / "shared").prepare()
        with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
            groups = [
                pool.submit(train_group, group, asked.folder, asked.results, max(1, available_cores() // asked.jobs))
                for group in by_base(experiments, asked.seeds, asked.folder, asked.results)
            ]
            for group in as_completed(groups):
                group.result()
                for experiment in experiments:
                    write_page(experiment, asked.results / experiment.name)
    for experiment in experiments:
        write_page(experiment, asked.results / experiment.name)


def read(path: Path) -> Experiment:
    """An experiment's file."""
    return Experiment(name=path.stem, **{"answer": "", **yaml.safe_load(path.read_text(encoding="utf-8"))})


def missing(experiment: Experiment, seeds: int, results: Path) -> Iterator[tuple[str, int]]:
    """Run and seed of what has not ended, all runs with one seed first."""
    for seed in range(1, min(seeds, experiment.seeds) + 1):
        for run in experiment.runs:
            if (seed == 1 or run not in experiment.once) and not result_file(results, run, seed).is_file():
                yield run, seed


def by_base(
    experiments: Sequence[Experiment], seeds: int, folder: Path, results: Path
) -> list[list[tuple[Experiment, str, int]]]:
    """Experiment, run and seed of all that has not ended, in groups that share a base; large groups first."""
    groups: dict[tuple[int, str], list[tuple[Experiment, str, int]]] = {}
    for experiment in experiments:
        for run, seed in missing(experiment, seeds, results / experiment.name):
            recipe = recipe_of(experiment, run, seed, folder / "recipes" / _name(experiment, run, seed))
            groups.setdefault((seed, base_key(recipe)), []).append((experiment, run, seed))
    return [group for (seed, _), group in sorted(groups.items(), key=lambda item: (item[0][0], -len(item[1])))]


def base_key(recipe: Recipe) -> str:
    """Equal for recipes whose bases have the same weights."""
    plan = compile_plan(recipe)
    return fingerprint_inputs(recipe, plan, plan.steps, dict.fromkeys(recipe.corpora), None).fingerprint()


def recipe_of(experiment: Experiment, run: str, seed: int, folder: Path, threads: int = 1) -> Recipe:
    """The recipe of a run, whose file is written to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = {"extends": str(HERE / "base.yaml"), "name": "experiment", "seed": seed, **experiment.runs[run]}
    keys["hardware"] = {"threads": threads}
    path = folder / "changes.yaml"
    path.write_text(yaml.safe_dump(keys, sort_keys=False), encoding="utf-8")
    return load_recipe(str(path))


def train_group(group: Sequence[tuple[Experiment, str, int]], root: Path, results: Path, threads: int) -> None:
    """Train runs that share a base, which the first of them trains, and leave the result of each."""
    known: dict[str, dict[str, Measured]] = {}
    for experiment, run, seed in group:
        sys.stderr.write(f"{time.strftime('%H:%M')} {experiment.name}: {run}, seed {seed}\n")
        recipe = recipe_of(experiment, run, seed, root / "recipes" / _name(experiment, run, seed), threads)
        base = root / "bases" / base_key(recipe)
        seconds, content = 0.0, recipe.model_dump_json()
        if content not in known:
            seconds, known[content] = train(recipe, root / _name(experiment, run, seed), root / "shared", base)
        done = asdict(Finished(run, seed, seconds, known[content]))
        write_atomic(result_file(results / experiment.name, run, seed), json.dumps(done, indent=1) + "\n")
    shutil.rmtree(base)


def train(recipe: Recipe, folder: Path, prepared: Path, base: Path) -> tuple[float, dict[str, Measured]]:
    """Seconds of the steps that were trained here, and each model's figures; no more of the folder is kept."""
    layout, shared = FamilyLayout(folder), FamilyLayout(prepared)
    is_trained = base.is_dir()
    for source, target in [(shared.corpora, layout.corpora), (shared.tokenizer, layout.tokenizer)]:
        shutil.copytree(source, target, dirs_exist_ok=True)
    family = Family(recipe, layout.root)
    if is_trained:
        shutil.copytree(base, layout.root, dirs_exist_ok=True)
    else:
        family.train(BASE)
        family.evaluate()
        copy = base.with_suffix(".copy")
        for part in (layout.model(BASE), layout.evaluation):
            shutil.copytree(part, copy / part.relative_to(layout.root), dirs_exist_ok=True)
        copy.rename(base)
    family.train()
    records = family.evaluate()
    trained = {model: list(read_metrics(layout.metrics(model))) for model in recipe.models}
    own = [line for model, line in trained.items() if model != BASE or not is_trained]
    seconds = sum(record.seconds for line in own for record in line if isinstance(record, StepRecord))
    models = {}
    for model in recipe.variants:
        steps = trained[BASE] + trained[model]
        models[model] = Measured(
            bits_per_byte=dict(records[model].bits_by_text),
            held_out=[(record.tokens, record.losses) for record in steps if isinstance(record, HeldOutRecord)],
            largest_grad_norm=_largest_grad_norm(trained[model]),
        )
    shutil.rmtree(layout.root)
    return seconds, models


def _name(experiment: Experiment, run: str, seed: int) -> str:
    return f"{experiment.name}-{result_file(Path(), run, seed).stem}"


def _largest_grad_norm(records: Sequence[Record]) -> float:
    return max(record.grad_norm for record in records if isinstance(record, StepRecord))


if __name__ == "__main__":
    main()
