from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tinyllama.errors import EvaluationError
from tinyllama.evaluation.agreement import Agreement, choice, compare_answers
from tinyllama.evaluation.answers import Answer, Response, parse_answer, read_answers, write_answers

if TYPE_CHECKING:
    from pathlib import Path


def answer(task: str, question: int, *responses: Response, options: tuple[str, ...] = ("a", "b")) -> Answer:
    return Answer(task, question, list(responses), {}, requests=[["why?", f" {option}"] for option in options])


def test_what_is_chosen_goes_by_the_tasks_metric() -> None:
    long_and_short = ((-6.0, False), (-5.0, False))
    assert choice(answer("piqa", 0, *long_and_short, options=("four", "two"))) == 0  # acc_norm: -6 / 4 > -5 / 3
    assert choice(answer("boolq", 0, *long_and_short, options=("four", "two"))) == 1  # acc
    assert choice(answer("arithmetic_2da", 0, (-0.1, True))) is True
    assert choice(answer("gsm8k", 0, "#### 7")) == ["#### 7"]


def test_agreement_names_the_questions_chosen_otherwise_and_the_largest_difference() -> None:
    ours = [answer("boolq", i, (-1.0, False), (-2.0, False)) for i in range(3)] + [answer("gsm8k", 0, "7")]
    theirs = [
        answer("boolq", 0, (-1.0, False), (-2.0, False)),
        answer("boolq", 1, (-1.5, False), (-1.25, False)),
        answer("gsm8k", 0, "8"),
        answer("piqa", 0, (-1.0, False), (-2.0, False)),
    ]
    assert compare_answers(ours, theirs) == {
        "boolq": Agreement(questions=2, other_choices=[1], largest_difference=0.75),
        "gsm8k": Agreement(questions=1, other_choices=[0], largest_difference=0.0),
    }


def test_answers_read_back_as_they_were_written(tmp_path: Path) -> None:
    answers = [
        Answer("boolq", 0, [(-1.5, False), (-2.0, True)], {"acc": 1.0}, [["why?", " a"]], 0, "hash"),
        Answer("gsm8k", "law/3", ["#### 7"], {"exact_match": 0.0}, [["why?", {"until": ["Q"]}]], "7", "hash"),
        Answer("humaneval", "Test/0", ["return 1"], {"pass@1": 1.0}, passed=[True]),
    ]
    write_answers(tmp_path / "questions.jsonl", answers)
    assert read_answers(tmp_path / "questions.jsonl") == answers


def test_lm_evals_spelling_of_numbers_and_flags_is_read() -> None:
    line = '{"task": "boolq", "question": 0, "requests": [], "responses": [["-6.0", "True"]], "acc": 1}'
    assert parse_answer(line).responses == [(-6.0, True)]


def test_a_line_that_is_no_answer_is_named(tmp_path: Path) -> None:
    (tmp_path / "questions.jsonl").write_text('{"task": "boolq"}\n')
    with pytest.raises(EvaluationError, match=r"questions\.jsonl:1: is no answer"):
        read_answers(tmp_path / "questions.jsonl")


def test_answers_with_other_separators_of_lines_come_back(tmp_path: Path) -> None:
    answers = [answer("gsm8k", number, "one\u2028two\x85three\x1dfour\r\n") for number in range(2)]
    write_answers(tmp_path / "questions.jsonl", answers)
    assert read_answers(tmp_path / "questions.jsonl") == answers
