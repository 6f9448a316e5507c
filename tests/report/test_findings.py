from __future__ import annotations

from tests.report.conftest import BITS
from tinyllama.report.findings import findings


def test_variants_are_compared_with_the_first_and_that_with_the_base() -> None:
    assert findings(BITS, "v1.1", ["prose"]) == {
        "v1.1": "3.9% fewer bits than the base on prose",
        "math_code": ("67% fewer bits than v1.1 on arithmetic, 56% on code and 7.5% on chinese; 1.4% more on prose"),
        "chinese": "68% fewer bits than v1.1 on chinese, 31% on code and 24% on arithmetic; 2.2% more on prose",
    }


def test_a_model_that_only_does_worse_is_said_to() -> None:
    bits = {"v1.1": {"a": 2.0, "b": 1.0}, "other": {"a": 3.0, "b": 1.001}}
    assert findings(bits, "v1.1", ["a"]) == {"other": "50% more bits than v1.1 on a"}


def test_what_is_not_measured_is_not_compared() -> None:
    assert findings({"base": {"a": 1.0}, "v1.1": {"b": 1.0}, "other": {}}, "v1.1", ["a"]) == {}
