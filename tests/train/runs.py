"""What tests of runs compare."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tinyllama.formats.open import open_model
from tinyllama.train.metrics import StepRecord, read_metrics

TIMINGS = {"seconds", "checkpoint_seconds", "tokens_per_second", "mfu", "memory"}


def deterministic_metrics(run: Path) -> list[dict[str, Any]]:
    """A run's records by field, without their timings."""
    records = [asdict(record) for record in read_metrics(run / "metrics.jsonl")]
    return [{name: value for name, value in record.items() if name not in TIMINGS} for record in records]


def step_records(run: Path) -> list[StepRecord]:
    """A run's records of steps whose updates were made."""
    return [record for record in read_metrics(run / "metrics.jsonl") if record.kind == "step"]


def weights(run: Path) -> dict[str, torch.Tensor]:
    """A run's newest weights."""
    return open_model(run).load().state_dict()


def assert_same_run(one: Path, other: Path) -> None:
    """Weights and metrics are equal, bit for bit."""
    assert deterministic_metrics(one) == deterministic_metrics(other)
    left, right = weights(one), weights(other)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
