from fractions import Fraction

import pytest

from tinyllama.recipe.quantities import Batch, format_count, parse_batch, parse_count, parse_share


@pytest.mark.parametrize(
    ("text", "count"),
    [("1.5T", 1_500_000_000_000), ("1.8M", 1_800_000), ("6b", 6_000_000_000), ("3_604_480_000", 3_604_480_000), (7, 7)],
)
def test_counts_read_as_people_write_them(text: object, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["1.5X", "", "-3", "1.2345K", True, None, "5%"])
def test_what_is_no_whole_count_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"count|whole"):
        parse_count(text)


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
