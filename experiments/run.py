"""Run the experiments on choices of recipes, and write a page of each: python -m experiments.run [NAME ...].

An experiment is a YAML file beside this one: a question, and runs that each change some keys of base.yaml. Every run is
a family, trained with seeds 1 to --seeds. A run that has ended leaves a small JSON file in docs/results/NAME/ and its
page is written again; a run that was stopped resumes. On two cores a run of 4M tokens takes four minutes, all of them
three hours. --draw writes the pages of what has ended, and trains nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from experiments.page import Experiment, Finished, Measured, result_file, write_page
from tinyllama import Family, load_recipe
from tinyllama.files import write_atomic
from tinyllama.layout import BASE, FamilyLayout
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
    parser.add_argument("--folder", type=Path, default=Path("runs/experiments"), help="of the families")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results and pages")
    parser.add_argument("--draw", action="store_true", help="write the pages of what has ended")
    asked = parser.parse_args()
    for path in sorted(HERE.glob("*.yaml")):
        if path.stem == BASE or (asked.names and path.stem not in asked.names):
            continue
        experiment = read(path)
        results = asked.results / experiment.name
        for run, seed in [] if asked.draw else missing(experiment, asked.seeds, results):
            sys.stderr.write(f"{time.strftime('%H:%M')} {experiment.name}: {run}, seed {seed}\n")
            finished = train(experiment, run, seed, asked.folder)
            write_atomic(result_file(results, run, seed), json.dumps(asdict(finished), indent=1) + "\n")
            write_page(experiment, results)
        write_page(experiment, results)


def read(path: Path) -> Experiment:
    """An experiment's file."""
    return Experiment(name=path.stem, **{"answer": "", **yaml.safe_load(path.read_text(encoding="utf-8"))})


def missing(experiment: Experiment, seeds: int, results: Path) -> Iterator[tuple[str, int]]:
    """Run and seed of what has not ended, all runs with one seed first."""
    for seed in range(1, seeds + 1):
        for run in experiment.runs:
            if not result_file(results, run, seed).is_file():
                yield run, seed


def recipe_of(experiment: Experiment, run: str, seed: int, folder: Path) -> Recipe:
    """The recipe of a run, whose file is written to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = {"extends": str(HERE / "base.yaml"), "name": "experiment", "seed": seed, **experiment.runs[run]}
    path = folder / "changes.yaml"
    path.write_text(yaml.safe_dump(keys, sort_keys=False), encoding="utf-8")
    return load_recipe(str(path))


def train(experiment: Experiment, run: str, seed: int, root: Path) -> Finished:
    """Train and measure a run's models; their folder is deleted, since only their figures are kept."""
    name = f"{experiment.name}-{result_file(Path(), run, seed).stem}"
    recipe = recipe_of(experiment, run, seed, root / "recipes" / name)
    layout, shared = FamilyLayout(root / name), FamilyLayout(root / "shared")
    Family(load_recipe(str(HERE / "base.yaml")), shared.root).prepare()
    for source, target in ((shared.corpora, layout.corpora), (shared.tokenizer, layout.tokenizer)):
        shutil.copytree(source, target, dirs_exist_ok=True)
    family = Family(recipe, layout.root)
    family.train()
    records = family.evaluate()
    trained = {model: list(read_metrics(layout.metrics(model))) for model in recipe.models}
    seconds = sum(record.seconds for line in trained.values() for record in line if isinstance(record, StepRecord))
    finished = Finished(run, seed, seconds, {})
    for model in recipe.variants:
        steps = trained[BASE] + trained[model]
        finished.models[model] = Measured(
            bits_per_byte=dict(records[model].bits_by_text),
            held_out=[(record.tokens, record.losses) for record in steps if isinstance(record, HeldOutRecord)],
            largest_grad_norm=_largest_grad_norm(trained[model]),
        )
    shutil.rmtree(layout.root)
    return finished


def _largest_grad_norm(records: Sequence[Record]) -> float:
    return max(record.grad_norm for record in records if isinstance(record, StepRecord))


if __name__ == "__main__":
    main()
