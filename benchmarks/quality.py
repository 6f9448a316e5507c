"""Losses compared with transformers in fp32: python benchmarks/quality.py [--quick]."""

from __future__ import annotations

import statistics
import sys
from typing import TYPE_CHECKING

from runner import Claim, Engine, Process, Result, Table, publish, speed_family, standard_arguments, tinyllama_train
from runner.inputs import write_inputs
from runner.machine import WORKERS
from runner.shapes import TINY, Shape

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = Shape("quality", (4, 128, 344, 4, 2, 128), 4)
"""The demo's blocks with 32,000 ids, a shorter context and a smaller batch: nine hundred steps in fp32 take minutes."""

TEXT = """`tinyllama train` with default options (bf16) and transformers' Trainer in fp32 train the same model from the
same weights on the same rows with the same learning rates, once for each seed. The final loss is the mean over the
last sixth of the steps. The spread is the standard deviation of the Trainer's final losses over the seeds."""


def main() -> None:
    """Train both with each seed and compare."""
    asked = standard_arguments(__doc__).parse_args()
    shape, steps, seeds = (TINY, 12, (1, 2)) if asked.quick else (SHAPE, 300, (1, 2, 3))
    ours, theirs = [], []
    for seed in seeds:
        sys.stderr.write(f"seed {seed}\n")
        one, other = _train(asked.out / "work", shape, seed, steps)
        ours.append(one)
        theirs.append(other)
    last = steps // 6
    final = [[statistics.fmean(run[-last:]) for run in runs] for runs in (ours, theirs)]
    means = [statistics.fmean(losses) for losses in final]
    spread = statistics.stdev(final[1])
    rows = [
        [name, *(f"{loss:.4f}" for loss in losses), f"{mean:.4f}"]
        for name, losses, mean in zip(("tinyllama train", "transformers Trainer, fp32"), final, means, strict=True)
    ]
    columns = ["final loss, nats a token", *(f"seed {seed}" for seed in seeds), "mean"]
    difference = abs(means[0] - means[1])
    text = f"{TEXT} {shape.label}; {steps} steps. Spread: {spread:.4f}, difference of the means: {difference:.4f}."
    claims = [Claim("difference of the means, in spreads", difference / spread, most=1.0)]
    facts = {"losses": {"tinyllama": ours, "transformers": theirs}, "spread": spread, "difference": difference}
    publish(Result("quality", "Quality", text, [Table(columns, rows)], claims, facts=facts), asked.out)


def _train(work: Path, shape: Shape, seed: int, steps: int) -> tuple[list[float], list[float]]:
    """Our losses and theirs at every step."""
    total = steps * shape.tokens
    rate = f"{{peak: 3e-3, minimum: 3e-4, warmup: {total // 10}, horizon: {total}}}"
    overrides = [
        *shape.overrides,
        f"seed={seed}",
        f"optimizer.learning_rate={rate}",
        f"stages.0.until={total}",
    ]
    family = speed_family(work, f"quality-{seed}", overrides)
    inputs, records = family / "inputs", family / "records.jsonl"
    write_inputs(family, inputs, overrides, steps)
    script = [sys.executable, str(WORKERS / "transformers_trainer.py"), str(inputs), str(records)]
    (family / "theirs").mkdir()
    theirs = Engine("transformers Trainer", [*script, "--steps", str(steps)], family / "theirs", records)
    return _losses(tinyllama_train("tinyllama train", family, overrides), steps), _losses(theirs, steps)


def _losses(engine: Engine, steps: int) -> list[float]:
    with Process(engine) as process:
        process.run_to(steps, timeout=900)
        return [record["loss"] for record in process.records[:steps]]


if __name__ == "__main__":
    main()
