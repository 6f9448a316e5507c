from __future__ import annotations

import math

import pytest

from tinyllama.evaluation.noise import QUESTIONS, bootstrap_stderr, differences
from tinyllama.evaluation.published import PUBLISHED, TASKS
from tinyllama.evaluation.scores import TaskScore


def test_the_bootstrap_agrees_with_the_formula_of_a_share() -> None:
    values = [1.0] * 300 + [0.0] * 700
    assert bootstrap_stderr(values) == pytest.approx(math.sqrt(0.3 * 0.7 / 1000), rel=0.03)
    assert bootstrap_stderr(values) == bootstrap_stderr(values[::-1])


def test_one_question_has_no_error() -> None:
    assert bootstrap_stderr([1.0]) is None


def result(score: float, questions: int) -> TaskScore:
    return TaskScore("acc", score, None, questions, bootstrap_stderr=math.sqrt(score * (1 - score) / questions))


def test_a_small_difference_on_few_questions_is_noise_and_a_large_one_on_many_is_not() -> None:
    few = {task.name: result(0.55, 64) for task in TASKS}
    assert not differences(few)["TinyLlama-1.1B v1.1"]["boolq"].exceeds_noise
    many = {task.name: result(0.80, QUESTIONS[task.name]) for task in TASKS}
    found = differences(many)["TinyLlama-1.1B v1.1"]
    assert found["boolq"].points == pytest.approx(80 - 55.99)
    assert all(item.exceeds_noise for item in found.values())
    assert found["average"].points == pytest.approx(80 - 53.63, abs=0.01)


def test_none_right_of_four_questions_proves_nothing() -> None:
    tasks = {"openbookqa": result(0.0, 4)}
    assert not any(row["openbookqa"].exceeds_noise for row in differences(tasks).values())


def test_an_average_is_compared_only_if_all_seven_have_a_score() -> None:
    assert all("average" not in row for row in differences({"boolq": result(0.5, 64)}).values())
    assert set(differences({})) == {row.model for row in PUBLISHED}
