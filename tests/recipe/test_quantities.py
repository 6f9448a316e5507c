import math
from fractions import Fraction

import pytest
import torch

from tinyllama.recipe.quantities import (
    Batch,
    format_count,
    format_share,
    parse_batch,
    parse_count,
    parse_number,
    parse_seed,
    parse_share,
)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1.5T", 1_500_000_000_000),
        ("1.8M", 1_800_000),
        ("6b", 6_000_000_000),
        ("3_604_480_000", 3_604_480_000),
        (7, 7),
        ("1,802,240", 1_802_240),
        ("1e9", 10**9),
        ("1.0e+9", 10**9),
        (1e9, 10**9),
        ("-0", 0),
        (".5M", 500_000),
    ],
)
def test_counts_read_as_people_write_them(text: object, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize(
    "text",
    [
        "1.5X",
        "",
        "-3",
        "1.2345K",
        True,
        None,
        "5%",
        "1,5M",
        "1,500M",
        "010",
        "1__0",
        "0x10",
        "1:30",
        "yes",
        ".inf",
        "nan",
        "1e19",
        "1e9999",
        "1.5",
        "٣",
        "1 000",
        "1.23456789012345678901234567890123456789T",
    ],
)
def test_what_is_no_whole_count_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"count|whole|zero"):
        parse_count(text)


@pytest.mark.parametrize(
    "text", ["33.333333333333%", "12.34567890123%", "1/3", "100%", "0%", "1e-20%", "7/12", "12.5%"]
)
def test_a_share_is_written_as_what_it_is(text: str) -> None:
    share = parse_share(text)
    assert parse_share(format_share(share)) == share


def test_a_number_is_finite_and_fits_fp32() -> None:
    assert parse_number("4e-4") == 0.0004
    assert math.copysign(1, parse_number("-0.0")) == 1
    for text in (".inf", "nan", float("inf"), "1e39", "1e-50", "yes", True, None, "0,1", "010", "٣"):
        with pytest.raises(ValueError, match=r"number|fp32|zero"):
            parse_number(text)


def test_a_seed_is_one_that_torch_takes() -> None:
    for text in ("-9223372036854775808", "18446744073709551615"):
        torch.Generator().manual_seed(parse_seed(text))
    for text in ("-9223372036854775809", "18446744073709551616", "yes", True, "1.5"):
        with pytest.raises(ValueError, match="whole"):
            parse_seed(text)


def test_shares_are_exact_fractions() -> None:
    assert parse_share("0.1%") * 1000 == 1
    assert parse_share("75%") == Fraction(3, 4)


@pytest.mark.parametrize("text", [75, 0.75, "75", "101%", "-5%"])
def test_a_share_must_be_a_percentage(text: object) -> None:
    with pytest.raises(ValueError, match="%"):
        parse_share(text)


def test_a_batch_is_sequences_or_tokens() -> None:
    assert parse_batch("880 sequences") == Batch(880, "sequences")
    assert parse_batch("1.8M") == Batch(1_800_000, "tokens")


def test_counts_print_as_people_write_them() -> None:
    assert format_count(1_500_000_000_000) == "1.5T"
    assert format_count(999) == "999"
    assert (format_count(999_900_000, 3), format_count(999_960), format_count(-999_960)) == ("1B", "1M", "-1M")
