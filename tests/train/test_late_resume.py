"""Resuming at step 1,000,000 of the flagship's plan takes as long as at step 1."""

import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tinyllama.checkpoint.format import load_tensors, save_checkpoint, stored_sizes, verify
from tinyllama.errors import Interrupted
from tinyllama.family import Family
from tinyllama.plan import compile_plan
from tinyllama.recipe import Recipe, load_recipe
from tinyllama.train.metrics import Record
from tinyllama.train.trainer import train

LATE = 1_000_000
CONTEXT = 16
SLOWER = 2.0
"""Seconds of processor time that may be added; a walk through the steps before would add minutes."""


def _flagship_in_small(folder: Path) -> Family:
    """The flagship's steps, batches and shares, sequence by sequence, of 16 tokens each and on nano's text."""
    flagship = load_recipe("tinyllama-v1.1")
    shorter = flagship.model.context // CONTEXT
    stages = [
        {
            "name": stage.name,
            "until": stage.until // shorter,
            "batch": f"{stage.batch.amount} sequences",
            "fork": stage.fork,
            "ramp": stage.ramp // shorter,
        }
        for stage in flagship.stages
    ]
    rate = flagship.optimizer.learning_rate
    overrides = (
        f"model.context={CONTEXT}",
        f"stages={stages}".replace("'", "").replace("True", "true").replace("False", "false"),
        f"optimizer.learning_rate.warmup={rate.warmup // shorter}",
        f"optimizer.learning_rate.horizon={rate.horizon // shorter}",
        "checkpoints.every=1B",
        "evaluation.every=1B",
    )
    recipe = load_recipe("nano", overrides)
    assert _counts(recipe, "math_code") == _counts(flagship, "math_code")
    return Family(recipe, folder)


def _counts(recipe: Recipe, variant: str) -> bytes:
    return np.ascontiguousarray(compile_plan(recipe, variant).counts).tobytes()


class _StopAtOnce:
    """Ends the run with its first step, and tells when that came."""

    def __init__(self) -> None:
        self.step, self.at = 0, 0.0

    def log(self, record: Record) -> None:
        if not self.at:
            self.step, self.at = record.step, time.process_time()
            os.kill(os.getpid(), signal.SIGTERM)

    def flush(self) -> None: ...

    def close(self) -> None: ...


def _seconds_to_the_next_step(family: Family, model: str, step: int) -> float:
    watch, run = _StopAtOnce(), family.training_run(model)
    run.watch.append(watch)
    began = time.process_time()
    with pytest.raises(Interrupted):
        train(run)
    assert watch.step == step + 1
    return watch.at - began


def _move(family: Family, step: int) -> None:
    """What the base's first step left, as if the variant had trained to `step`: state and a line a step."""
    first, run = verify(family.folder / "base/checkpoints/step-1"), family.training_run("math_code")
    tensors = {name: torch.empty(size) for name, size in stored_sizes(first).items()}
    load_tensors(first, tensors)
    state = first.state.model_copy(update={"step": step, "fingerprint_inputs": run.fingerprint_inputs(step)})
    save_checkpoint(run.folder / "checkpoints", tensors, state)
    with (run.folder / "metrics.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(f'{{"kind": "step", "step": {n}}}\n' for n in range(1, step + 50))


def test_a_run_goes_on_at_step_a_million_as_fast_as_at_step_1(prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared, tmp_path / "family")
    family = _flagship_in_small(tmp_path / "family")
    _seconds_to_the_next_step(family, "base", 0)
    _seconds_to_the_next_step(family, "base", 1)  # imports what reads checkpoints
    shutil.rmtree(family.folder / "base/checkpoints/step-2")
    early = _seconds_to_the_next_step(family, "base", 1)
    _move(family, LATE)
    late = _seconds_to_the_next_step(family, "math_code", LATE)
    print(f"step 1: {early:.2f} s, step {LATE:,}: {late:.2f} s of processor time")  # noqa: T201  # `pytest -s` shows the figure
    assert late < early + SLOWER
