"""Text for numbers and events in the report."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyllama.train.metrics import SpikeRecord

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def percent_change(ratio: float) -> str:
    """1.014 → `+1.4%`; a ratio below 1 gets a minus sign. Changes below 10% have one decimal."""
    change = (ratio - 1) * 100
    sign = "\N{MINUS SIGN}" if change < 0 else "+"
    return f"{sign}{percent(abs(change))}"


def percent(value: float) -> str:
    """56.2 → `56%`, 1.37 → `1.4%`."""
    return f"{value:.0f}%" if value >= 10 else f"{value:.1f}%"


def duration(seconds: float) -> str:
    """Seconds in readable units: `42 s`, `12 min 5 s`, `3 h 20 min`, `9 d 4 h`."""
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    for unit, name, below, below_name in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "min"),
        (_MINUTE, "min", 1, "s"),
    ):
        if whole >= unit:
            rest = whole % unit // below
            return f"{whole // unit} {name} {rest} {below_name}" if rest else f"{whole // unit} {name}"
    raise AssertionError(seconds)


def minute(seconds: float) -> str | None:
    """Seconds since 1970 as UTC: `2026-07-01 09:30`; None for what is no time."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        return None


def spike_text(record: SpikeRecord) -> str:
    """Describe a spike: `loss 9.102 at step 7 is above 4.300: step 7 is skipped`."""
    first, last = record.skipped
    steps = f"step {last} is" if first == last else f"steps {first} to {last} are"
    if record.loss is None or record.grad_norm is None or record.threshold is None:
        return f"not finite at step {last}: {steps} skipped"
    return f"loss {record.loss:.3f} at step {last} is above {record.threshold:.3f}: {steps} skipped"
