"""What tests of runs compare."""

from pathlib import Path
from typing import Any

import torch

from tinyllama.formats.open import open_model
from tinyllama.train.metrics import read_metrics

TIMINGS = {"seconds", "checkpoint_seconds", "tokens_per_second", "utilisation"}


def deterministic_metrics(run: Path) -> list[dict[str, Any]]:
    """A run's records without their timings."""
    return [{k: v for k, v in record.items() if k not in TIMINGS} for record in read_metrics(run / "metrics.jsonl")]


def weights(run: Path) -> dict[str, torch.Tensor]:
    """A run's newest weights."""
    return open_model(run).load().state_dict()


def assert_same_run(one: Path, other: Path) -> None:
    """Weights and metrics are equal, bit for bit."""
    assert deterministic_metrics(one) == deterministic_metrics(other)
    left, right = weights(one), weights(other)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
