"""Losses of a few pinned steps. `make golden` computes them again and writes losses.json.

Renew them only with a change that is meant to change every run's losses, and say so where you describe the change.
"""

import json
import shutil
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.train.runs import step_records
from tinyllama.family.family import Family
from tinyllama.recipe import load_recipe
from tinyllama.train.metrics import read_metrics

RECIPE = str(Path(__file__).with_name("golden.yaml"))
PINNED = Path(__file__).with_name("losses.json")
CASES = [f"{precision} {optimizer}" for precision, optimizer in product(("fp32", "bf16"), ("adamw", "muon"))]


def prepare(folder: Path) -> None:
    """Make the tokenizer and the corpora that all cases share."""
    assert not Family(load_recipe(RECIPE), folder).prepare().missing


def losses(prepared: Path, folder: Path, case: str) -> dict[str, list[float] | dict[str, float]]:
    """Train one case in a folder of its own: the loss of each step, and the last held-out losses."""
    precision, optimizer = case.split()
    shutil.copytree(prepared, folder)
    recipe = load_recipe(RECIPE, [f"precision={precision}", f"optimizer.kind={optimizer}"])
    Family(recipe, folder).train("mixed")
    steps = [record.loss for model in ("base", "mixed") for record in step_records(folder / model)]
    *_, held_out = (r for r in read_metrics(folder / "mixed/metrics.jsonl") if r.kind == "held_out")
    return {"losses": steps, "held_out": held_out.losses}


def renew() -> None:
    """Compute all cases and write them."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder / "prepared")
        found = {case: losses(folder / "prepared", folder / case, case) for case in CASES}
    PINNED.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    renew()
