from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tinyllama.errors import UserError
from tinyllama.inference import Sampling
from tinyllama.inference.sampling import choose, keep_top_k, keep_top_p, penalize_repetition, process

VOCABULARY = 50


def processors_of(settings: Sampling) -> LogitsProcessorList:
    """What transformers' generate puts together for the same settings, in its order."""
    processors = LogitsProcessorList()
    if settings.repetition_penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(settings.repetition_penalty))
    if settings.temperature != 1.0:
        processors.append(TemperatureLogitsWarper(settings.temperature))
    if settings.top_k:
        processors.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1.0:
        processors.append(TopPLogitsWarper(settings.top_p))
    return processors


@given(
    seed=st.integers(0, 2**32),
    temperature=st.sampled_from([0.3, 0.7, 1.0, 1.7]),
    top_k=st.sampled_from([0, 1, 10, VOCABULARY, 2 * VOCABULARY]),
    top_p=st.sampled_from([0.01, 0.5, 0.95, 1.0]),
    penalty=st.sampled_from([0.7, 1.0, 1.5]),
    ties=st.booleans(),
)
def test_processed_logits_equal_those_of_transformers(  # noqa: PLR0913  # one argument a setting
    *, seed: int, temperature: float, top_k: int, top_p: float, penalty: float, ties: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(3, VOCABULARY, generator=generator)
    if ties:
        logits = logits.round()
    seen = torch.randint(VOCABULARY, (3, 20), generator=generator)
    settings = Sampling(temperature, top_k, top_p, penalty)
    theirs = processors_of(settings)(seen, logits.clone())
    ours = process(logits, seen, settings)
    assert torch.equal(ours, theirs)
    assert torch.equal(process(logits[1], seen[1], settings), ours[1])


def test_processing_leaves_the_models_logits_alone() -> None:
    logits = torch.tensor([1.0, -1.0, 0.5])
    process(logits, torch.tensor([0, 1]), Sampling(0.5, 1, 0.5, 2.0))
    assert logits.tolist() == [1.0, -1.0, 0.5]


def test_the_penalty_is_applied_once_however_often_a_token_was_seen() -> None:
    processed = penalize_repetition(torch.tensor([4.0, -4.0, 4.0]), torch.tensor([0, 0, 0, 1, 1]), 2.0)
    assert processed.tolist() == [2.0, -8.0, 4.0]


def test_top_k_keeps_ties() -> None:
    assert keep_top_k(torch.tensor([3.0, 2.0, 2.0, 1.0]), 2).isfinite().tolist() == [True, True, True, False]


def test_top_p_keeps_the_most_likely_token_at_least() -> None:
    assert keep_top_p(torch.tensor([0.0, 0.1, 0.0]), 1e-6).isfinite().tolist() == [False, True, False]


def test_greedy_takes_the_most_likely_token_and_still_penalizes() -> None:
    greedy, generator = Sampling(temperature=0, repetition_penalty=2.0), torch.Generator()
    logits = process(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[0]]), greedy)
    assert choose(logits, greedy, generator).tolist() == [1]


def test_samples_follow_the_distribution() -> None:
    settings, generator = Sampling(repetition_penalty=1.0, top_k=0), torch.Generator().manual_seed(0)
    logits = torch.tensor([0.7, 0.2, 0.1]).log().expand(3000, 3)
    counts = torch.bincount(choose(logits, settings, generator))
    torch.testing.assert_close(counts / 3000, torch.tensor([0.7, 0.2, 0.1]), rtol=0, atol=0.03)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("temperature", -0.1), ("top_k", -1), ("top_p", 0.0), ("top_p", 1.1), ("repetition_penalty", 0.0)],
)
def test_settings_out_of_range_are_refused_by_name(setting: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"{setting} is {value}"):
        Sampling(**{setting: value})
