"""Measures that move while accuracy is still at chance: they are computed from the recorded log-likelihoods.

Accuracy counts only which option is likeliest, so a small model's stays at chance long after the model has begun to
learn. The bits of the right answer fall from the first steps on.
"""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING

from tinyllama.evaluation.agreement import choice
from tinyllama.evaluation.scores import TaskScore, TaskScores

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tinyllama.evaluation.answers import Answer

CORE = frozenset({
    "hellaswag", "arc_easy", "arc_challenge", "copa", "commonsense_qa", "piqa", "openbookqa", "lambada_openai",
    "wsc273", "winogrande", "boolq", "agieval_lsat_ar", "squadv2", "coqa", "bigbench_qa_wikidata_generate_until",
    "bigbench_dyck_languages_generate_until", "bigbench_cs_algorithms_generate_until",
    "bigbench_operators_generate_until", "bigbench_repeat_copy_logic_generate_until",
    "bigbench_language_identification_multiple_choice",
})  # fmt: skip
"""lm-eval's names of the tasks of DCLM's CORE (arXiv:2406.11794); it has no definition of jeopardy."""
_BASELINES = {"boolq": 0.62}
"""CORE's baselines that are not the chance of a guess: for BoolQ, the share of its more frequent answer in percent.

Source: the column "Random baseline" of `eval/eval_meta_data.csv` and `eval_meta_data_v1.csv` in mlfoundations/dclm: 62
in both versions of CORE. The second version gives other tasks the chance among the options of its own form of the
questions (commonsense_qa 40.3, agi_eval_lsat_ar and bigbench_language_identification 25); ours is that among the
options that lm-eval asks.
"""


def with_measures(scores: TaskScores) -> TaskScores:
    """The scores, with the measures that follow from the answers."""
    tasks = {
        name: _measured(result, scores.answers[name])  # a group of lm-eval's has no answers of its own
        if isinstance(result, TaskScore) and scores.answers.get(name)
        else result
        for name, result in scores.tasks.items()
    }
    return replace(scores, tasks=tasks)


def bits_of_right(answer: Answer) -> float | None:
    """Bits per byte of the right answer; None for a question without options whose likelihoods are known."""
    right = _right(answer)
    return None if right is None else _bits(answer)[right]


def margin(answer: Answer) -> float | None:
    """Bits per byte of the best wrong option less those of the right one; None for a question without options."""
    right = _right(answer)
    if right is None:
        return None
    bits = _bits(answer)
    wrong = [value for index, value in enumerate(bits) if index != right]
    return min(wrong) - bits[right] if wrong else None


def core(scores: Mapping[str, TaskScore]) -> tuple[float, int] | None:
    """DCLM's centered mean over those of CORE's tasks that have a score, and their number; None if none has.

    A task's score is centered so that a guess is 0 and all right is 1.
    """
    centered = []
    for name, score in scores.items():
        chance = _BASELINES.get(name, score.chance)
        if name in CORE and chance is not None:
            centered.append((score.score - chance) / (1 - chance))
    return (fmean(centered), len(centered)) if centered else None


def _measured(score: TaskScore, answers: list[Answer]) -> TaskScore:
    bits = [value for answer in answers if (value := bits_of_right(answer)) is not None]
    margins = [value for answer in answers if (value := margin(answer)) is not None]
    return replace(
        score,
        chance=fmean(1 / len(answer.responses) if margin(answer) is not None else 0.0 for answer in answers),
        right_bits=fmean(bits) if bits else None,
        margin=fmean(margins) if margins else None,
    )


def _right(answer: Answer) -> int | None:
    """Which option is right: lm-eval states it in several ways, but its score says whether the likeliest is."""
    options = [str(option) for _, *rest in answer.requests for option in rest]  # whole texts have none
    if not options or len(options) != len(answer.responses) or any(isinstance(it, str) for it in answer.responses):
        return None
    if len(options) == 1:
        return 0
    chosen, (score, *_) = choice(answer), answer.scores.values()
    if isinstance(chosen, int) and score == 1:
        return int(chosen)
    if isinstance(chosen, int) and len(options) == 2:
        return 1 - chosen
    if isinstance(answer.target, int):
        return answer.target if 0 <= answer.target < len(options) else None
    stripped = [option.strip() for option in options]
    target = str(answer.target).strip()
    return stripped.index(target) if stripped.count(target) == 1 else None


def _bits(answer: Answer) -> list[float]:
    """Bits per byte of each option; a model predicts the space before an option too."""
    return [
        -response[0] / math.log(2) / max(1, len(str(request[1]).encode()))
        for response, request in zip(answer.responses, answer.requests, strict=False)
        if not isinstance(response, str)
    ]
