"""The cost of checkpoints while training continues: python benchmarks/checkpoint.py [--quick]."""

from __future__ import annotations

import os
import signal
import statistics
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from runner import Claim, Result, Table, publish, speed_family, standard_arguments
from runner.inputs import RECIPE
from runner.shapes import TINY, mini

from tinyllama.errors import Interrupted
from tinyllama.family import Family
from tinyllama.layout import BASE
from tinyllama.recipe import load_recipe
from tinyllama.train.trainer import train

if TYPE_CHECKING:
    from tinyllama.train.metrics import Record

TEXT = """One run of the demo's blocks with 32,000 ids saves a checkpoint every {twice} steps. It is written, hashed and
synced to the disk during the first {half} of these steps, while training continues; during the other {half} nothing is
written. The {pairs} pairs of halves are compared in wall-clock time, and in processor time of all threads, which other
work on the machine disturbs less. The difference is the cost of a checkpoint every {half} steps."""


class Stamp(NamedTuple):
    """The clocks at the end of a step."""

    wall: float
    processor: float
    """Seconds of all threads."""


class Clock:
    """Receives a run's records and notes when each step was done; stops the run after the last."""

    def __init__(self, last: int) -> None:
        self.stamps: dict[int, Stamp] = {}
        self._last = last

    def log(self, record: Record) -> None:
        """Note the time of a step."""
        if record.kind == "step":
            self.stamps[record.step] = Stamp(time.perf_counter(), time.process_time())
        if record.step == self._last:
            os.kill(os.getpid(), signal.SIGTERM)

    def flush(self) -> None:
        """Nothing is buffered."""

    def close(self) -> None:
        """Nothing is open."""


def main() -> None:
    """Train once, and compare the halves."""
    asked = standard_arguments(__doc__ or "").parse_args()
    shape, half, pairs = (TINY, 5, 2) if asked.quick else (mini(), 50, 8)
    twice = 2 * half
    overrides = [*shape.overrides, f"checkpoints.every={twice * shape.tokens}"]
    folder = speed_family(asked.out / "work", f"checkpoint-{shape.name}", overrides)
    run = Family(load_recipe(str(RECIPE), overrides), folder).training_run(BASE)
    clock = Clock((pairs + 1) * twice)  # the first pair is skipped, since blocks compile in it
    run.watch.append(clock)
    with suppress(Interrupted):
        train(run)
    seconds = {
        name: [
            tuple(after - before for before, after in zip(clock.stamps[first], clock.stamps[first + half], strict=True))
            for first in range(twice + offset, (pairs + 1) * twice, twice)
        ]
        for name, offset in (("writing", 0), ("not writing", half))
    }
    medians = {name: [statistics.median(column) for column in zip(*seconds[name], strict=True)] for name in seconds}
    costs = [
        100
        * statistics.median(
            with_[clock_] / without[clock_] - 1
            for with_, without in zip(seconds["writing"], seconds["not writing"], strict=True)
        )
        for clock_ in (0, 1)
    ]
    table = Table(
        [f"{half} steps", "wall-clock, s", "processor, s"],
        [[name, f"{wall:.2f}", f"{processor:.2f}"] for name, (wall, processor) in medians.items()],
    )
    claims = [
        Claim(f"cost of a checkpoint every {half} steps, in {name} time", cost, most=3.0, unit=" %")
        for name, cost in zip(("wall-clock", "processor"), costs, strict=True)
    ]
    text = TEXT.format(twice=twice, half=half, pairs=pairs)
    publish(Result("checkpoint", "Checkpoints", text, [table], claims, facts={"seconds": seconds}), asked.out)


if __name__ == "__main__":
    main()
