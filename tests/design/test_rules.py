"""The rules at the points that their sources publish."""

import pytest

from tinyllama.design.rules import (
    CHINCHILLA,
    batch_tokens,
    optimal_tokens,
    optimal_vocabulary,
    peak_learning_rate,
    warmup_tokens,
)

DEEPSEEK = {  # model: training FLOPs without embeddings, peak, tokens of a batch (DeepSeek LLM, table 2)
    "7B": (6 * 6.9e9 * 2e12, 4.2e-4, 2304 * 4096),
    "67B": (6 * 67e9 * 2e12, 3.2e-4, 4608 * 4096),
}


@pytest.mark.parametrize(
    ("parameters", "tokens"),
    [(400e6, 8.0e9), (1e9, 20.2e9), (10e9, 205.1e9), (67e9, 1.5e12), (70e9, 1.4e12)],
)
def test_compute_optimal_tokens_are_those_of_hoffmanns_table_and_of_chinchilla(
    parameters: float, tokens: float
) -> None:
    assert optimal_tokens(parameters) == pytest.approx(tokens, rel=0.12)


def test_tinyllama_is_over_trained_91_times() -> None:
    assert optimal_tokens(1_100_048_384, over_training=91) == pytest.approx(2e12, rel=0.01)


@pytest.mark.parametrize(("flops", "peak", "batch"), DEEPSEEK.values(), ids=DEEPSEEK)
def test_learning_rate_and_batch_are_those_that_deepseek_trained_with(flops: float, peak: float, batch: int) -> None:
    assert peak_learning_rate(flops) == pytest.approx(peak, rel=0.02)
    assert batch_tokens(flops) == pytest.approx(batch, rel=0.05)


def test_the_warm_up_has_2000_steps_or_a_twentieth_of_the_tokens() -> None:
    assert warmup_tokens(1_802_240, 2 * 10**12) == 3_604_480_000
    assert warmup_tokens(8192, 1_000_000) == 50_000


def test_the_fit_gives_chinchillas_loss_and_says_what_it_covers() -> None:
    """Hoffmann et al. 2022, table A4 and figure 4: about 1.94 nats for 70B parameters on 1.4T tokens."""
    assert CHINCHILLA.loss(70e9, 1.4e12) == pytest.approx(1.936, abs=0.002)
    assert CHINCHILLA.covers(70e9, 1.4e12)
    assert not CHINCHILLA.covers(10e6, 1.4e12)
    assert not CHINCHILLA.covers(70e9, 1e9)


@pytest.mark.parametrize("parameters", [1e8, 1e10])
def test_the_optimum_of_a_fit_has_the_lowest_loss_of_all_models_of_its_compute(parameters: float) -> None:
    tokens = CHINCHILLA.optimal_tokens(parameters)
    for factor in (0.9, 1.1):
        assert CHINCHILLA.loss(parameters * factor, tokens / factor) > CHINCHILLA.loss(parameters, tokens)


def test_a_fit_that_ends_covers_nothing_larger_and_a_margin_widens_both_sides() -> None:
    fit = CHINCHILLA._replace(largest=16e9, most=5e11)
    assert fit.covers(16e9, 5e11)
    assert not fit.covers(17e9, 5e11)
    assert fit.covers(300e9, 5e11, 20)
    assert fit.covers(3e6, 5e11, 20)
    assert not fit.covers(330e9, 5e11, 20)
    assert not fit.covers(2e6, 5e11, 20)


@pytest.mark.parametrize(("other", "width", "ids"), [(33e6, 512, 6_144), (2.87e9, 3200, 43_000)])
def test_the_vocabulary_grows_with_the_model(other: float, width: int, ids: int) -> None:
    """Tao et al. 2024 begin with 6,144 ids for 33M other parameters, and train 2.87B with 43K."""
    assert optimal_vocabulary(other, width) == pytest.approx(ids, rel=0.1)
