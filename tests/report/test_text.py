from __future__ import annotations

import pytest

from tinyllama.report.text import duration, percent_change
from tinyllama.text import listing


@pytest.mark.parametrize(
    ("seconds", "spelled"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (42.2, "42 s"),
        (59.7, "1 min"),
        (725, "12 min 5 s"),
        (3600, "1 h"),
        (12_000, "3 h 20 min"),
        (7_776_000 + 4 * 3600, "90 d 4 h"),
    ],
)
def test_durations_are_spelled_in_two_units_at_most(seconds: float, spelled: str) -> None:
    assert duration(seconds) == spelled


def test_changes_have_a_sign_and_one_decimal_below_ten_percent() -> None:
    assert [percent_change(ratio) for ratio in (1.014, 0.44, 1.5)] == ["+1.4%", "\N{MINUS SIGN}56%", "+50%"]


def test_listings_end_with_and() -> None:
    assert [listing(list(names)) for names in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]
