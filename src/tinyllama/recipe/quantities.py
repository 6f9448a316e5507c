"""Human-readable quantities: `1.5T` tokens, `75%`, `880 sequences`."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator, PlainSerializer

_SUFFIXES = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_COUNT = re.compile(r"([0-9][0-9_,]*(?:\.[0-9]+)?)\s*([KMBT]?)", re.IGNORECASE)
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")
_SEQUENCES = re.compile(r"([0-9][0-9_,]*)\s*sequences?")


class Batch(NamedTuple):
    """A batch size as written in the recipe."""

    amount: int
    unit: str
    """`sequences` or `tokens`."""


def parse_count(value: object) -> int:
    """`1.5T`, `3_604_480_000`, `2000` → a whole number.

    Raises:
        ValueError: the value is not a count or not a whole number.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _COUNT.fullmatch(str(value).strip()) if isinstance(value, str | float) else None
    if match is None:
        raise ValueError(f"{value!r} is not a count; write it like 1500000, 1.5M or 2T")
    number = Decimal(re.sub(r"[_,]", "", match[1])) * _SUFFIXES[match[2].upper()]
    if number != number.to_integral_value():
        raise ValueError(f"{value!r} is not a whole number")
    return int(number)


def parse_share(value: object) -> Fraction:
    """`75%` → the fraction 3/4, exactly.

    Raises:
        ValueError: the value is not a percentage between 0% and 100%.
    """
    if isinstance(value, Fraction):
        return value
    match = _PERCENT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a share; write it as a percentage like 75%")
    share = Fraction(match[1]) / 100
    if share > 1:
        raise ValueError(f"{value!r} is more than 100%")
    return share


def parse_batch(value: object) -> Batch:
    """`880 sequences` or a count of tokens like `1802240`.

    Raises:
        ValueError: the value is neither.
    """
    if isinstance(value, Batch):
        return value
    if isinstance(value, str) and (match := _SEQUENCES.fullmatch(value.strip())):
        return Batch(int(re.sub(r"[_,]", "", match[1])), "sequences")
    return Batch(parse_count(value), "tokens")


def format_count(value: float, digits: int = 4) -> str:
    """1500000000000 → `1.5T`: at most `digits` significant digits, for display."""
    for suffix in ("T", "B", "M", "K"):
        if abs(value) >= _SUFFIXES[suffix]:
            return f"{value / _SUFFIXES[suffix]:.{digits}g}{suffix}"
    return f"{value:.{digits}g}"


def format_share(share: Fraction) -> str:
    """The fraction 3/4 → `75%`."""
    return f"{float(share * 100):.10g}%"


def format_batch(batch: Batch) -> str:
    """Format a batch size as in a recipe."""
    return f"{batch.amount} sequences" if batch.unit == "sequences" else str(batch.amount)


def _parse_number(value: object) -> float:
    """Convert to a number; YAML 1.1 reads `4e-4` as a string."""
    try:
        return float(value)  # type: ignore[arg-type]  # anything float() refuses is caught
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is not a number") from None


Count = Annotated[int, BeforeValidator(parse_count)]
Share = Annotated[Fraction, BeforeValidator(parse_share), PlainSerializer(format_share, return_type=str)]
BatchSize = Annotated[Batch, BeforeValidator(parse_batch), PlainSerializer(format_batch, return_type=str)]
Number = Annotated[float, BeforeValidator(_parse_number)]
