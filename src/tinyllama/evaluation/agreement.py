"""Whether two evaluations of one model agree, question by question: in another precision, batch or program."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tinyllama.evaluation.catalogue import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

Answer = dict[str, Any]
"""A line of questions.jsonl: `task`, `question`, `requests`, `responses`, …"""
_SAME = ("kind", "sha256", "bos")
"""What must be the same of two records' sources for their answers to be comparable."""


@dataclass
class Agreement:
    """One task's answers in two evaluations."""

    questions: int = 0
    other_choices: list[Any] = field(default_factory=list)
    """Questions on which the two choose otherwise."""
    largest_difference: float = 0.0
    """Of a log-likelihood, in nats."""

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return dict(vars(self))


def compare_answers(ours: Iterable[Answer], theirs: Iterable[Answer]) -> dict[str, Agreement]:
    """Task → agreement, over the questions that both answered; both must have been asked the same."""
    others = {(answer["task"], answer["question"]): answer for answer in theirs}
    found: dict[str, Agreement] = {}
    for answer in ours:
        other = others.get((answer["task"], answer["question"]))
        if other is None:
            continue
        agreement = found.setdefault(answer["task"], Agreement())
        agreement.questions += 1
        if choice(answer) != choice(other):
            agreement.other_choices.append(answer["question"])
        for one, two in zip(answer["responses"], other["responses"], strict=True):
            if not isinstance(one, str):
                agreement.largest_difference = max(agreement.largest_difference, abs(float(one[0]) - float(two[0])))
    return found


def choice(answer: Answer) -> Any:  # noqa: ANN401  # an option's number, a flag, or texts
    """What a model chose: the likeliest option by the task's metric, whether its one option is greedy, or its text."""
    responses = answer["responses"]
    if any(isinstance(response, str) for response in responses):
        return responses
    if len(responses) == 1:
        return str(responses[0][1]) == "True"
    scores = [float(response[0]) for response in responses]
    if CATALOGUE[answer["task"]].metric == "acc_norm":  # lm-eval divides by the characters of the option itself
        lengths = [len(option.removeprefix(" ")) for _, option in answer["requests"]]
        scores = [score / max(1, length) for score, length in zip(scores, lengths, strict=True)]
    return scores.index(max(scores))


def against_record(folder: Path, inputs: Mapping[str, Any], answers: Iterable[Answer]) -> dict[str, Any] | None:
    """Agreement with an evaluation on disk, by task; None if there is none of the same weights, tokenizer and BOS.

    Args:
        folder: of the other record.
        inputs: what our figures depend on, as the record has it.
        answers: ours.
    """
    try:
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        lines = (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    same = record["tokenizer_sha256"] == inputs["tokenizer_sha256"] and all(
        record["source"][key] == inputs["source"][key] for key in _SAME
    )
    if not same:
        return None
    return {task: found.to_json() for task, found in compare_answers(answers, map(json.loads, lines)).items()}
