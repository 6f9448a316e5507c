"""Bits and margin of the right answer, on hand-made answers and on all seven tasks; CORE's centered mean."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from tinyllama.evaluation.answers import Answer
from tinyllama.evaluation.catalogue import CATALOGUE
from tinyllama.evaluation.measures import bits_of_right, core, margin
from tinyllama.evaluation.scores import TaskScore
from tinyllama.evaluation.task_data import TASK_DATA
from tinyllama.evaluation.tasks import evaluate_tasks

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.model import Llama
    from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer


def asked(nats: list[float], options: list[str], target: object, score: float) -> Answer:
    requests = [["Why?", option] for option in options]
    return Answer("t", 0, [(-value, False) for value in nats], {"acc": score}, requests, target)


def test_bits_and_margin_are_those_of_a_plain_computation() -> None:
    answer = asked([2.0, 3.0, 6.0], [" a", " bcd", " é"], 1, 0.0)  # 2, 4 and 3 bytes
    assert bits_of_right(answer) == pytest.approx(3.0 / math.log(2) / 4)
    assert margin(answer) == pytest.approx((2.0 / 2 - 3.0 / 4) / math.log(2))


@pytest.mark.parametrize(
    ("target", "score", "right"),
    [(2, 0.0, 2), (" b", 0.0, 1), ("b", 0.0, 1), ("no option", 1.0, 0)],
)
def test_the_right_option_is_found_however_the_task_states_it(target: object, score: float, right: int) -> None:
    answer = asked([1.0, 2.0, 3.0], [" a", " b", " c"], target, score)
    assert bits_of_right(answer) == pytest.approx((right + 1) / math.log(2) / 2)


def test_of_two_options_the_one_that_was_wrongly_chosen_is_not_the_right_one() -> None:
    assert bits_of_right(asked([1.0, 2.0], [" a", " b"], "its text", 0.0)) == pytest.approx(2.0 / math.log(2) / 2)


def test_texts_and_single_continuations_have_no_margin() -> None:
    assert margin(asked([2.0], [" 42"], " 42", 0.0)) is None
    assert bits_of_right(asked([2.0], [" 42"], " 42", 0.0)) == pytest.approx(2.0 / math.log(2) / 3)
    generated = Answer("gsm8k", 0, ["42"], {"exact_match": 1.0}, [["Why?", {"until": []}]], "42")
    assert (bits_of_right(generated), margin(generated)) == (None, None)


def gold(task: str, row: dict[str, Any]) -> int:
    if "answerKey" in row:
        return int(row["choices"]["label"].index(row["answerKey"]))
    return int(row["answer"]) - 1 if task == "winogrande" else int(row["label"])


def test_all_seven_tasks_have_bits_of_the_rows_own_right_answer(
    model: Llama, tokenizer: SentencePieceTokenizer, data: Path
) -> None:
    scores = evaluate_tasks(model, tokenizer, ["commonsense"], data)
    for name, answers in scores.answers.items():
        lines = (data / TASK_DATA[name].file).read_text().splitlines()
        for answer, line in zip(answers, lines, strict=True):
            index = gold(name, json.loads(line))
            nats, size = answer.responses[index], len(answer.requests[index][1].encode())
            assert not isinstance(nats, str)
            assert bits_of_right(answer) == pytest.approx(-nats[0] / math.log(2) / size), name
        found = scores.measured[name]
        options = [len(answer.responses) for answer in answers]
        assert found.chance == pytest.approx(sum(1 / n for n in options) / len(options))
        assert found.right_bits is not None
        assert found.right_bits > 0
        assert found.margin is not None


def test_cores_mean_is_0_for_a_guess_and_1_for_all_right() -> None:
    def scored(name: str, score: float, chance: float) -> TaskScore:
        return TaskScore(CATALOGUE[name].metric, score, None, 9, chance=chance)

    guess = {
        "piqa": scored("piqa", 0.5, 0.5),
        "boolq": scored("boolq", 0.62, 0.5),
        "arc_easy": scored("arc_easy", 0.25, 0.25),
    }
    assert core(guess) == (pytest.approx(0), 3)
    mixed = {
        "piqa": scored("piqa", 0.75, 0.5),
        "arc_easy": scored("arc_easy", 1.0, 0.25),
        "cmmlu": scored("cmmlu", 1, 0.25),
    }
    assert core(mixed) == (pytest.approx(0.75), 2)
    assert core({}) is None
