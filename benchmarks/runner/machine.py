"""What the machine can do: the peak of its matrix products, measured among the engines' turns."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .process import Engine

if TYPE_CHECKING:
    from collections.abc import Sequence

WORKERS = Path(__file__).parent.parent / "workers"
PEAK = "matrix peak"


def matrix_peak(work: Path) -> Engine:
    """An engine whose steps are large products in bf16."""
    folder = work / "peak"
    folder.mkdir(parents=True, exist_ok=True)
    records = folder / "records.jsonl"
    records.unlink(missing_ok=True)
    return Engine(PEAK, [sys.executable, str(WORKERS / "peak.py"), str(records)], folder, records)


def measured_peak(records: Sequence[dict[str, Any]]) -> float:
    """FLOP/s: the median of what the engine reached after its first step."""
    found: list[float] = [record["flops"] for record in records[1:] or records]
    return statistics.median(found)
