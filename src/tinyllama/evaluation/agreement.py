"""Whether two evaluations of one model agree, question by question: in another precision, batch or program."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinyllama.evaluation.catalogue import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tinyllama.evaluation.answers import Answer, Response


@dataclass(frozen=True)
class Agreement:
    """One task's answers in two evaluations."""

    questions: int
    """That both answered."""
    other_choices: list[int | str]
    """Questions for which the two choose different answers."""
    largest_difference: float
    """Of a log-likelihood, in nats."""


def compare_answers(ours: Iterable[Answer], theirs: Iterable[Answer]) -> dict[str, Agreement]:
    """Task → agreement, over the questions that both answered; both must have been asked the same."""
    others = {(answer.task, answer.question): answer for answer in theirs}
    pairs: dict[str, list[tuple[Answer, Answer]]] = defaultdict(list)
    for answer in ours:
        if (other := others.get((answer.task, answer.question))) is not None:
            pairs[answer.task].append((answer, other))
    return {
        task: Agreement(
            questions=len(compared),
            other_choices=[one.question for one, other in compared if choice(one) != choice(other)],
            largest_difference=max(
                _largest_difference(one.responses, other.responses) for one, other in compared
            ),
        )
        for task, compared in pairs.items()
    }  # fmt: skip


def choice(answer: Answer) -> int | bool | list[Response]:
    """What a model chose: the likeliest option by the task's metric, whether its one option is greedy, or its texts."""
    likelihoods = [response for response in answer.responses if not isinstance(response, str)]
    if len(likelihoods) < len(answer.responses):
        return answer.responses
    if len(likelihoods) == 1:
        return likelihoods[0][1]
    scores = [logp for logp, _ in likelihoods]
    metric = CATALOGUE[answer.task].metric if answer.task in CATALOGUE else next(iter(answer.scores))
    if metric == "acc_norm":  # lm-eval divides by the characters of the option itself
        lengths = [len(str(option).removeprefix(" ")) for _, option in answer.requests]
        scores = [score / max(1, length) for score, length in zip(scores, lengths, strict=True)]
    return scores.index(max(scores))


def _largest_difference(ours: Sequence[Response], theirs: Sequence[Response]) -> float:
    return max(
        (
            abs(one[0] - other[0])
            for one, other in zip(ours, theirs, strict=True)
            if not isinstance(one, str) and not isinstance(other, str)
        ),
        default=0.0,
    )
