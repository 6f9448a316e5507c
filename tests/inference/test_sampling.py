from __future__ import annotations

import re

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from tinyllama.errors import UserError
from tinyllama.inference import Sampling
from tinyllama.inference.sampling import choose, keep_top_k, keep_top_p, penalize_repetition, process

VOCABULARY = 50


def processors_of(sampling: Sampling) -> LogitsProcessorList:
    """What transformers' generate puts together for the same settings, in its order."""
    processors = LogitsProcessorList()
    if sampling.repetition_penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.no_repeat_ngram_size:
        processors.append(NoRepeatNGramLogitsProcessor(sampling.no_repeat_ngram_size))
    if sampling.bad_words_ids:
        processors.append(NoBadWordsLogitsProcessor([list(word) for word in sampling.bad_words_ids]))
    if sampling.temperature != 1.0:
        processors.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        processors.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1.0:
        processors.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        processors.append(MinPLogitsWarper(sampling.min_p))
    if sampling.typical_p < 1.0:
        processors.append(TypicalLogitsWarper(sampling.typical_p))
    return processors


WORDS = ((3,), (5, 7), (5, 5, 7), (7,), (1, 2, 3, 4, 5), tuple(range(1, 30)))


@hypothesis.settings(deadline=None)
@hypothesis.given(
    seed=st.integers(0, 2**32),
    sampling=st.builds(
        Sampling,
        temperature=st.sampled_from([0.3, 0.7, 1.0, 1.7]),
        top_k=st.sampled_from([0, 1, 10, VOCABULARY, 2 * VOCABULARY]),
        top_p=st.sampled_from([0.01, 0.5, 0.95, 1.0]),
        repetition_penalty=st.sampled_from([0.7, 1.0, 1.5]),
        min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
        typical_p=st.sampled_from([0.01, 0.5, 0.9, 1.0]),
        no_repeat_ngram_size=st.sampled_from([0, 1, 2, 3, 20, 21, 30]),
        bad_words_ids=st.lists(st.sampled_from(WORDS), max_size=3, unique=True).map(tuple),
    ),
    kinds=st.sampled_from([2, 8, VOCABULARY]),
    ties=st.booleans(),
)
def test_processed_logits_equal_those_of_transformers(*, seed: int, sampling: Sampling, kinds: int, ties: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(3, VOCABULARY, generator=generator)
    if ties:
        logits = logits.round()
    seen = torch.randint(kinds, (3, 20), generator=generator)
    seen[0, -3:] = torch.tensor([5, 5, 5])
    theirs = processors_of(sampling)(seen, logits.clone())
    ours = process(logits, seen, sampling)
    assert torch.equal(ours, theirs)
    assert torch.equal(process(logits[1], seen[1], sampling), ours[1])


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_what_stands_before_a_shorter_text_counts_for_nothing(length: int) -> None:
    logits, text = torch.linspace(-2, 3, 9), torch.tensor([4, 4, 1, 4, 4][:length])
    padded = torch.cat([torch.full((5,), -1), text])
    for size, word in [(1, (0, 8)), (2, (4, 4, 2)), (3, (4, 2)), (4, (2,))]:
        settings = Sampling(0, repetition_penalty=1.5, no_repeat_ngram_size=size, bad_words_ids=(word,))
        assert torch.equal(process(logits, padded, settings), process(logits, text, settings))


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


def test_a_text_whose_every_token_is_banned_ends_with_a_reason() -> None:
    settings = Sampling(no_repeat_ngram_size=1)
    logits = process(torch.zeros(1, 3), torch.tensor([[0, 1, 2]]), settings)
    with pytest.raises(UserError, match="every token is banned"):
        choose(logits, settings, torch.Generator())


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
    [
        ("temperature", -0.1),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("repetition_penalty", 0.0),
        ("min_p", 1.1),
        ("typical_p", 0.0),
        ("no_repeat_ngram_size", -1),
        ("bad_words_ids", ((),)),
    ],
)
def test_settings_out_of_range_are_refused_by_name(setting: str, value: float) -> None:
    with pytest.raises(UserError, match=re.escape(f"{setting} is {value}")):
        Sampling(**{setting: value})
