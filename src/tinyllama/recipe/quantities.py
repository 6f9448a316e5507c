"""Numbers as people write them: `1.5T` tokens, `75%`, `880 sequences`, `4e-4`; one grammar for every key and option.

A value is parsed from the text in the recipe, never from what YAML makes of it: YAML 1.1 reads `010` as 8, `yes` as
true, and `1e9` as text. A text that people could read as two numbers is refused.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator, PlainSerializer

from tinyllama.text import shown

_SUFFIXES = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_DIGITS = "[0-9]+(?:_[0-9]+)*"
_NUMBER = re.compile(rf"[+-]?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:e[+-]?[0-9]{{1,4}})?", re.IGNORECASE)
_THOUSANDS = re.compile("[0-9]{1,3}(?:,[0-9]{3})+")
_LEADING_ZERO = re.compile("[+-]?0[0-9_]")
_SUFFIXED = re.compile(r"(.*[0-9.])\s*([KMBT])", re.IGNORECASE)
_PERCENT = re.compile(r"(.*[0-9.])\s*%")
_RATIO = re.compile(r"([0-9]{1,40})\s*/\s*([0-9]{1,40})")
_SEQUENCES = re.compile(r"(.*[0-9.KMBT])\s*sequences?", re.IGNORECASE)
_FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_FINEST = 10**40
"""Bound on the denominator of a share."""
_LONGEST = 100
"""Most characters in a number."""

LARGEST_COUNT = 10**18
"""Sums of a few counts stay below 2^63, where the integers of NumPy and torch end."""
LARGEST_BATCH = 2**31 - 1
"""Sequences; the plan stores them as 32-bit integers."""
_FP32 = 2.0**-126, (2 - 2.0**-23) * 2.0**127
"""Smallest and largest normal number of fp32, in which weights are updated."""
_SEEDS = -(2**63), 2**64 - 1
"""Smallest and largest seed that torch's generators take."""


class Batch(NamedTuple):
    """A batch size as written in the recipe."""

    amount: int
    unit: str
    """`sequences` or `tokens`."""


def parse_count(value: object) -> int:
    """`1.5T`, `3_604_480_000`, `1,802,240`, `1e9`, `2000` → a whole number.

    Raises:
        ValueError: the value is no count, no whole number, negative, or above 10^18.
    """
    text, suffix = _text(value), ""
    if match := _SUFFIXED.fullmatch(text):
        text, suffix = match[1].rstrip(), match[2].upper()
    elif _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    number = Fraction(_digits(text, value, "a count; write it like 1500000, 1.5M or 2T"))
    return _whole(number * _SUFFIXES[suffix], value, 0, LARGEST_COUNT)


def parse_seed(value: object) -> int:
    """A whole number, which may be negative, for torch's generators.

    Raises:
        ValueError: the value is no whole number, or beyond -2^63 to 2^64 - 1.
    """
    return _whole(Fraction(_digits(_text(value), value, "a whole number")), value, *_SEEDS)


def parse_number(value: object) -> float:
    """`4e-4`, `0.1`, `1_000` → a number that fp32 can hold; negative zero becomes zero.

    Raises:
        ValueError: the value is no number, not finite, or beyond the range of fp32.
    """
    digits = _digits(_text(value), value, "a number; write it like 0.1 or 4e-4")
    number = float(digits) + 0.0
    if Fraction(digits) and not _FP32[0] <= abs(number) <= _FP32[1]:
        raise ValueError(f"{shown(value)} is beyond the range of fp32, {_FP32[0]:.3g} to {_FP32[1]:.3g}")
    return number


def parse_share(value: object) -> Fraction:
    """`75%` → the fraction 3/4, exactly; `1/3` → a third.

    Raises:
        ValueError: the value is not a share between 0% and 100%.
    """
    if isinstance(value, Fraction):
        share = value
    else:
        expected = "a share; write it as a percentage like 75%, or as a ratio like 1/3"
        text = _text(value)
        if (ratio := _RATIO.fullmatch(text)) and int(ratio[2]):
            share = Fraction(int(ratio[1]), int(ratio[2]))
        elif percent := _PERCENT.fullmatch(text):
            share = Fraction(_digits(percent[1].rstrip(), value, expected)) / 100
        else:
            raise ValueError(f"{shown(value)} is not {expected}")
    if not 0 <= share <= 1:
        raise ValueError(f"{shown(value)} is {'more than 100' if share > 1 else 'less than 0'}%")
    if share.denominator >= _FINEST:
        raise ValueError(f"{shown(value)} has too many digits; a share has at most 38 decimals")
    return share


def parse_batch(value: object) -> Batch:
    """`880 sequences` or a count of tokens like `1802240`.

    Raises:
        ValueError: the value is neither.
    """
    if isinstance(value, Batch):
        return value
    if isinstance(value, str) and (match := _SEQUENCES.fullmatch(value.strip())):
        return Batch(parse_count(match[1]), "sequences")
    return Batch(parse_count(value), "tokens")


def parse_flag(value: object) -> bool:
    """`true`, `false`, and YAML 1.1's other words for them: `yes`, `no`, `on`, `off`.

    Raises:
        ValueError: the value is none of these.
    """
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else ""
    if word not in _FLAGS:
        raise ValueError(f"{shown(value)} must be true or false")
    return _FLAGS[word]


def format_count(value: float, digits: int = 4) -> str:
    """1500000000000 → `1.5T`: at most `digits` significant digits, for display."""
    value = float(f"{value:.{digits}g}")  # first, so that 999.9M with three digits is 1B
    for suffix in ("T", "B", "M", "K"):
        if abs(value) >= _SUFFIXES[suffix]:
            return f"{value / _SUFFIXES[suffix]:.{digits}g}{suffix}"
    return f"{value:.{digits}g}"


def format_share(share: Fraction) -> str:
    """The fraction 3/4 → `75%`, exactly; a fraction that has no finite percentage stays one: `1/3`."""
    percent, decimals = share * 100, 0
    rest = percent.denominator
    for factor in (2, 5):
        power = 0
        while rest % factor == 0:
            rest, power = rest // factor, power + 1
        decimals = max(decimals, power)
    if rest > 1 or decimals > _LONGEST - len("100.%"):
        return f"{share.numerator}/{share.denominator}"
    whole, part = divmod(percent.numerator * 10**decimals // percent.denominator, 10**decimals)
    return f"{whole}.{part:0{decimals}}%" if decimals else f"{whole}%"


def format_batch(batch: Batch) -> str:
    """Format a batch size as in a recipe."""
    return f"{batch.amount} sequences" if batch.unit == "sequences" else str(batch.amount)


def _text(value: object) -> str:
    """What was written; nothing for a value that is neither text nor a number."""
    return str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def _digits(text: str, value: object, expected: str) -> str:
    """A text that spells a number, as Python reads it.

    Raises:
        ValueError: it spells none; the message says so of the whole `value`.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"{shown(value)} has {len(text)} characters; a number has at most {_LONGEST}")
    if _NUMBER.fullmatch(text) is None:
        comma = "; a comma only separates groups of three digits, in a count without suffix" if "," in text else ""
        raise ValueError(f"{shown(value)} is not {expected}{comma}")
    if _LEADING_ZERO.match(text):
        raise ValueError(f"{shown(value)} starts with a zero, which YAML reads as octal; remove the zero")
    return text.replace("_", "")


def _whole(number: Fraction, value: object, smallest: int, largest: int) -> int:
    if number.denominator != 1:
        raise ValueError(f"{shown(value)} is not a whole number")
    if not smallest <= number <= largest:
        raise ValueError(f"{shown(value)} is not a whole number from {smallest} to {largest}")
    return int(number)


Count = Annotated[int, BeforeValidator(parse_count)]
Seed = Annotated[int, BeforeValidator(parse_seed)]
Share = Annotated[Fraction, BeforeValidator(parse_share), PlainSerializer(format_share, return_type=str)]
BatchSize = Annotated[Batch, BeforeValidator(parse_batch), PlainSerializer(format_batch, return_type=str)]
Number = Annotated[float, BeforeValidator(parse_number)]
Flag = Annotated[bool, BeforeValidator(parse_flag)]
