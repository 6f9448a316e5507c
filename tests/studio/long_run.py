"""A run of invented numbers that is long: `python -m tests.studio.long_run FOLDER [STEPS]` writes one."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np

from tinyllama.files import write_atomic
from tinyllama.layout import FamilyLayout
from tinyllama.recipe import dump_recipe, load_recipe
from tinyllama.train.metrics import HeldOutRecord, JsonlLogger, StepRecord

TOKENS = 1024
"""In a step of nano's base."""
HIGH = 9.5
"""Loss of the step in the middle."""


def write_long_run(folder: Path, steps: int) -> None:
    """Write a family whose base has recorded many steps, with held-out losses after each 5,000."""
    ends = [f"stages.{index}.until={steps * TOKENS * (index + 10) // 10}" for index in range(3)]
    recipe = load_recipe("nano", [*ends, f"optimizer.learning_rate.horizon={2 * steps * TOKENS}"])
    layout, noises = FamilyLayout(folder), np.random.default_rng(1)
    write_atomic(layout.recipe, dump_recipe(recipe))
    logger = JsonlLogger(layout.metrics("base"), 0)
    for step in range(1, steps + 1):
        loss = 2 + 4 * math.exp(-20 * step / steps)
        noise = float(noises.normal(0, 0.05))
        logger.log(
            StepRecord(
                step=step, stage="base", tokens=step * TOKENS, loss=HIGH if 2 * step == steps else loss + noise,
                lr=4e-3 * (1 - step / steps / 2), grad_norm=1 + noise, batch=16, counts={"prose": 16},
                seconds=0.01 + noise / 100, checkpoint_seconds=0.0, tokens_per_second=1e5, mfu=0.3 + noise,
                digest="c663b496823bcc97",
            )
        )  # fmt: skip
        if step % 5000 == 0:
            logger.log(HeldOutRecord(step=step, tokens=step * TOKENS, losses={"prose": loss}))
    logger.close()


if __name__ == "__main__":
    write_long_run(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000)
