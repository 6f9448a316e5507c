"""The fault campaign: families that are killed again and again must end as one that never was.

    python -m tests.train.soak --kills 50 --seed 1 > docs/results/soak.md

A life is one small nano family (base and one variant) on one or two ranks. It is started until it is finished; each
start but the last is killed at a point that the seed chooses. The finished life is compared with an uninterrupted one
on as many ranks: every weight, bit for bit, and every record of the metrics.
"""

import argparse
import platform
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch

from tests.train.faults import Fault, draw_fault
from tests.train.processes import train_on
from tests.train.runs import assert_same_run
from tinyllama.checkpoint.format import steps_saved
from tinyllama.family import Family
from tinyllama.recipe import load_recipe

VARIANT = "math_code"
OVERRIDES = ("checkpoints.every=2K", "hardware.collective_timeout=60")


@dataclass(frozen=True)
class Kill:
    """One start that a fault ended."""

    life: int
    ranks: int
    fault: Fault
    codes: list[int | None]
    """How each rank ended: an exit code, or the negative number of a signal."""
    kept: str
    """The newest checkpoint that was there afterwards."""


def soak(kills: int, seed: int, folder: Path) -> Iterator[Kill]:
    """Kill until enough was killed; each life is compared when it is finished.

    Raises:
        AssertionError: a life ended otherwise than the uninterrupted one.
    """
    chance, done, life = Random(seed), 0, 0  # noqa: S311  # not for secrets
    prepared = folder / "prepared"
    family = Family(load_recipe("nano"), prepared)
    assert set(family.prepare().corpora) == set(family.recipe.corpora)
    whole = {ranks: _train_whole(prepared, folder / f"whole-{ranks}", ranks) for ranks in (1, 2)}
    while done < kills:
        life, ranks = life + 1, life % 2 + 1
        killed = Path(shutil.copytree(prepared, folder / f"life-{life}"))
        while True:
            fault = draw_fault(chance, ranks) if done < kills else None
            plant = {} if fault is None else {fault.rank: fault.plant}
            codes = train_on(killed, ranks, ranks, OVERRIDES, VARIANT, in_rank=plant)
            if codes == [0] * ranks:
                break
            assert fault is not None, codes
            assert codes[fault.rank] in {-fault.number, 128 + fault.number}, (fault, codes)
            done += 1
            yield Kill(life, ranks, fault, codes, _newest(killed))
        for model in ("base", VARIANT):
            assert_same_run(whole[ranks] / model, killed / model)
        shutil.rmtree(killed)


def _train_whole(prepared: Path, folder: Path, ranks: int) -> Path:
    shutil.copytree(prepared, folder)
    assert train_on(folder, ranks, ranks, OVERRIDES, VARIANT) == [0] * ranks
    return folder


def _newest(folder: Path) -> str:
    """The newest checkpoint of the variant, else of the base."""
    for model in (VARIANT, "base"):
        if steps := steps_saved(folder / model / "checkpoints"):
            return f"{model} {steps[-1]}"
    return "none"


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run a campaign and write its log to stdout."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    began, seen = time.monotonic(), Counter[str]()
    _write(f"# Fault campaign\n\n`make soak SEED={asked.seed}` on {platform.machine()}, torch {torch.__version__}.\n")
    _write("| life | ranks | signal | to rank | moment | ends of the ranks | newest checkpoint then |")
    _write("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for kill in soak(asked.kills, asked.seed, Path(folder)):
            fault = kill.fault
            ends = ", ".join(str(code) for code in kill.codes)
            cells = (kill.life, kill.ranks, fault.number.name, fault.rank, fault, ends, kill.kept)
            _write(f"| {' | '.join(str(cell) for cell in cells)} |")
            seen.update([f"{kill.ranks} ranks", fault.number.name, fault.point])
    counts = ", ".join(f"{name} {count}" for name, count in sorted(seen.items()))
    _write(f"\n{asked.kills} kills in {time.monotonic() - began:.0f} s: {counts}.\n")
    _write("Every life ended with the weights and metrics of an uninterrupted run on as many ranks, bit for bit.")


if __name__ == "__main__":
    main()
