"""The paired test keeps its promise under the null hypothesis, finds true differences, and Holm corrects."""

from __future__ import annotations

import numpy as np
import pytest

from tinyllama.comparison.statistics import LEVEL, holm, paired_test


def answers(rng: np.random.Generator, n: int, rate: float, other: float) -> list[float]:
    """Differences of two models' right answers that are of equal difficulty for both, question by question."""
    hard = rng.normal(size=n)
    first = (rng.normal(size=n) + hard) < np.sqrt(2) * rate
    second = (rng.normal(size=n) + hard) < np.sqrt(2) * other
    return (second.astype(float) - first).tolist()


@pytest.mark.parametrize("questions", [8, 64, 500])
def test_equal_models_are_told_apart_no_more_often_than_the_level_says(questions: int) -> None:
    rng = np.random.default_rng(7)
    trials = 400
    wrong = sum(paired_test(answers(rng, questions, -0.6, -0.6), 1000, seed=i).p <= LEVEL for i in range(trials))
    assert wrong <= LEVEL * trials + 2 * np.sqrt(LEVEL * (1 - LEVEL) * trials)  # two standard errors of a share


def test_skewed_numbers_are_held_to_the_level_too() -> None:
    rng = np.random.default_rng(3)
    wrong = 0
    for i in range(300):
        first, second = rng.lognormal(size=(2, 40))
        wrong += paired_test((second - first).tolist(), 1000, seed=i).p <= LEVEL
    assert 2 <= wrong <= 300 * LEVEL + 2 * np.sqrt(300 * LEVEL * (1 - LEVEL))


def test_a_true_difference_is_found_and_lies_in_the_interval() -> None:
    rng = np.random.default_rng(1)
    found = paired_test(answers(rng, 1000, -0.3, 0.1))
    truth = 0.1580  # of normal quantiles: 0.5398 - 0.3821
    assert found.p < 0.001
    assert found.low < truth < found.high
    assert found.low < found.difference < found.high


def test_the_p_value_of_few_changes_is_that_of_fair_coins() -> None:
    changed = paired_test([1.0] * 5 + [0.0] * 95)
    assert changed.p == pytest.approx(2 * 0.5**5, abs=0.008)  # McNemar's exact test
    assert paired_test([0.0] * 50).p == 1.0
    assert paired_test([0.0] * 50).low == paired_test([0.0] * 50).high == 0


def test_a_test_can_be_repeated() -> None:
    values = np.random.default_rng(2).normal(size=300).tolist()
    assert paired_test(values) == paired_test(values)


def test_holm_corrects_the_smallest_most_and_keeps_the_order() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([]) == []
