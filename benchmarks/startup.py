"""Start-up time of the command: python benchmarks/startup.py [--quick]."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from runner import Claim, Process, Result, Table, publish, speed_family, standard_arguments, tinyllama_train
from runner.inputs import TINYLLAMA
from runner.shapes import TINY, mini

if TYPE_CHECKING:
    from pathlib import Path

    from runner.shapes import Shape

TEXT = """Wall-clock time from the start of the command to its end, or to the end of the first training step of the
demo's blocks with 32,000 ids on prepared text, first with an empty compiler cache, then with the cache that this
left."""


def main() -> None:
    """Measure commands and first steps."""
    asked = standard_arguments(__doc__).parse_args()
    shape, repeats = (TINY, 2) if asked.quick else (mini(), 9)
    answering = {
        f"tinyllama {' '.join(words)}": [_seconds([*TINYLLAMA, *words]) for _ in range(repeats)]
        for words in (["--help"], ["plan", "mini"])
    }
    cache = asked.out / "work" / "compiler-cache"
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir(parents=True)
    first = {
        "first step, nothing compiled": [_first_step(asked.out, shape, cache)],
        "first step, compiled before": [_first_step(asked.out, shape, cache) for _ in range(min(repeats, 3))],
    }
    limits = dict(zip((*answering, *first), (0.25, 1.0, 20.0, 20.0), strict=True))
    medians = {name: statistics.median(seconds) for name, seconds in (answering | first).items()}
    table = Table(
        ["", "median, s", "runs"], [[n, f"{m:.2f}", str(len((answering | first)[n]))] for n, m in medians.items()]
    )
    claims = [Claim(f"{name}, seconds", medians[name], most=limit, unit=" s") for name, limit in limits.items()]
    publish(Result("startup", "Start-up", TEXT, [table], claims, facts={"seconds": answering | first}), asked.out)


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # our own command
    return time.perf_counter() - began


def _first_step(out: Path, shape: Shape, cache: Path) -> float:
    family = speed_family(out / "work", f"startup-{shape.name}", shape.overrides)
    engine = tinyllama_train("tinyllama train", family, shape.overrides)
    # Its precompiled headers stay in the folder for temporary files, wherever its cache is.
    own = {"TORCHINDUCTOR_CACHE_DIR": str(cache.resolve()), "TMPDIR": str(cache.resolve())}
    engine = replace(engine, environment=own)
    with Process(engine) as process:
        process.run_to(1, timeout=300)
        return process.stamps[1].clock


if __name__ == "__main__":
    main()
