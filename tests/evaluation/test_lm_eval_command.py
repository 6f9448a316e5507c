"""Question by question against `lm_eval --model hf`, on models and rows that are given: `make test-lm-eval`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.evaluation.lm_eval_alone import run_lm_eval
from tinyllama.evaluation.agreement import compare_answers
from tinyllama.evaluation.catalogue import CATALOGUE, GROUPS
from tinyllama.evaluation.scores import EvaluationOptions
from tinyllama.evaluation.tasks import evaluate_tasks
from tinyllama.formats.open import open_model

MODELS, DATA = os.environ.get("MODELS", "").split(), os.environ.get("DATA")
LIMIT = int(os.environ["LIMIT"]) if os.environ.get("LIMIT") else None
NAMES = list(GROUPS["commonsense"])


@pytest.mark.slow
@pytest.mark.timeout(3 * 3600)
@pytest.mark.skipif(not MODELS or DATA is None, reason="make test-lm-eval MODELS=<folders> DATA=<folder> runs it")
@pytest.mark.parametrize("model", MODELS or ["none"])
def test_every_question_is_answered_as_lm_eval_hf_answers_it(model: str, tmp_path: Path) -> None:
    source, data = open_model(model), Path(str(DATA))
    options = EvaluationOptions(limit=LIMIT, bos=source.adds_bos)
    scores = evaluate_tasks(source.load(), source.tokenizer(), NAMES, data, options)
    theirs = run_lm_eval(Path(model), data, NAMES, tmp_path, LIMIT)
    expected = {(answer.task, answer.question): answer for answer in theirs}
    mine = [answer for answers in scores.answers.values() for answer in answers]
    assert len(mine) == len(expected) > 0
    for answer in mine:
        other, metric = expected[answer.task, answer.question], CATALOGUE[answer.task].metric
        assert answer.requests == other.requests
        assert answer.scores[metric] == other.scores[metric]
        for (ours_logp, ours_greedy), (theirs_logp, theirs_greedy) in zip(
            answer.responses, other.responses, strict=True
        ):
            # 1e-4 nats, or where a sum is large, what its own fp32 can tell apart
            assert ours_logp == pytest.approx(theirs_logp, abs=1e-4, rel=1e-6)
            assert ours_greedy == theirs_greedy
    found = compare_answers(mine, theirs)
    print(found)  # noqa: T201  # the figures, with -s
    assert {task: agreement.other_choices for task, agreement in found.items()} == {name: [] for name in NAMES}
