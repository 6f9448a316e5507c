from __future__ import annotations

from typing import Any

from tinyllama.evaluation.agreement import choice, compare_answers


def answer(task: str, question: int, *responses: Any, options: tuple[str, ...] = ("a", "b")) -> dict[str, Any]:  # noqa: ANN401  # as they come
    requests = [["why?", f" {option}"] for option in options]
    return {"task": task, "question": question, "requests": requests, "responses": list(responses)}


def test_what_is_chosen_goes_by_the_tasks_metric() -> None:
    long_and_short = (("-6.0", "False"), ("-5.0", "False"))
    assert choice(answer("piqa", 0, *long_and_short, options=("four", "two"))) == 0  # acc_norm: -6 / 4 > -5 / 3
    assert choice(answer("boolq", 0, *long_and_short, options=("four", "two"))) == 1  # acc
    assert choice(answer("arithmetic_2da", 0, ["-0.1", "True"])) is True
    assert choice(answer("gsm8k", 0, "#### 7")) == ["#### 7"]


def test_agreement_names_the_questions_chosen_otherwise_and_the_largest_difference() -> None:
    ours = [answer("boolq", i, [-1.0, False], [-2.0, False]) for i in range(3)] + [answer("gsm8k", 0, "7")]
    theirs = [
        answer("boolq", 0, [-1.0, False], [-2.0, False]),
        answer("boolq", 1, [-1.5, False], [-1.25, False]),
        answer("gsm8k", 0, "8"),
        answer("piqa", 0, [-1.0, False], [-2.0, False]),
    ]
    found = {task: agreement.to_json() for task, agreement in compare_answers(ours, theirs).items()}
    assert found == {
        "boolq": {"questions": 2, "other_choices": [1], "largest_difference": 0.75},
        "gsm8k": {"questions": 1, "other_choices": [0], "largest_difference": 0.0},
    }
