from __future__ import annotations

import pytest

from tinyllama.evaluation.published import PUBLISHED, TASKS, mean


def test_every_published_average_but_one_is_the_mean_of_its_row() -> None:
    notes = {row.model: row.note for row in PUBLISHED if row.note}
    assert notes == {"TinyLlama-1.1B step-1431k-3T": "published as 52.99; the row's own scores average 52.97"}


def test_rows_have_a_score_for_each_of_the_seven_tasks() -> None:
    assert len(TASKS) == 7
    assert all(len(row.scores) == 7 for row in PUBLISHED)


def test_metrics_are_those_of_the_published_table() -> None:
    assert {task.name for task in TASKS if task.metric == "acc"} == {"winogrande", "boolq"}
    assert {task.metric for task in TASKS} == {"acc", "acc_norm"}


def test_the_mean_gives_each_task_the_same_weight() -> None:
    assert mean([0.25, 0.75, 0.5]) == pytest.approx(0.5)
