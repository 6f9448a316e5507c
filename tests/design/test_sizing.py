import math

import pytest

from tinyllama.design.machines import MeasuredMachine, PredictedMachine
from tinyllama.design.rules import batch_tokens
from tinyllama.design.shapes import FAMILIES
from tinyllama.design.sizing import Budget, Size, recommended, sizes, usual_vocabulary
from tinyllama.errors import PlanError
from tinyllama.recipe import Recipe

DAY = 86_400


class Clock:
    """A machine whose FLOP/s rise with the width, as they do; notes what is measured."""

    def __init__(self, memory: int | None = None) -> None:
        self.measured: list[int] = []
        self.machine = MeasuredMachine("here", 1e11, memory, self.measure)

    def flops(self, width: int) -> float:
        return 5e10 * width / (width + 100)

    def measure(self, recipe: Recipe, sequences: int) -> float:
        assert sequences > 0
        self.measured.append(recipe.model.width)
        return self.flops(recipe.model.width) / recipe.model.flops_per_token


def test_the_recommended_shape_has_about_twenty_tokens_per_parameter_and_takes_the_time() -> None:
    size = recommended(sizes(PredictedMachine("rtx4090"), Budget(seconds=DAY)))
    assert 12 < size.tokens_per_parameter < 33
    assert size.seconds == pytest.approx(DAY, rel=1e-6)
    assert 100e6 < size.parameters < 600e6  # about 8e18 FLOPs


@pytest.mark.parametrize(("width", "ids"), [(64, 4096), (256, 4096), (512, 8192), (960, 16384), (1280, 32000)])
def test_small_models_have_4096_ids_and_larger_ones_those_of_tao(width: int, ids: int) -> None:
    assert usual_vocabulary(FAMILIES["smollm"], width) == ids


def test_over_training_gives_a_smaller_model_on_more_tokens() -> None:
    machine = PredictedMachine("h100", 8)
    usual, over = (recommended(sizes(machine, Budget(seconds=DAY, over_training=more))) for more in (1, 10))
    assert over.parameters < usual.parameters / 2
    assert over.tokens > 2 * usual.tokens
    assert over.seconds == pytest.approx(DAY, rel=1e-6)


def test_published_runs_follow_from_their_cards_and_days() -> None:
    """TinyLlama: 16 A100-40G trained the 1.1B model on 3T tokens in 90 days."""
    found = sizes(PredictedMachine("a100-40g", 16, 2), Budget(seconds=90 * DAY, vocab_size=32000, context=2048))
    (size,) = [size for size in found if size.family == "tinyllama" and size.shape.width == 2048]
    assert size.tokens == pytest.approx(3e12, rel=0.05)


def test_the_batch_is_deepseeks_in_whole_sequences() -> None:
    for size in sizes(PredictedMachine("h100", 8), Budget(seconds=DAY)):
        batch = size.sequences * size.shape.context
        assert batch == pytest.approx(batch_tokens(size.flops), rel=0.4)
        assert size.sequences % 8 == 0
        assert size.sequences >= 16 or size.shape.context == 256


def test_only_the_fit_of_models_that_it_covers_counts_as_fitted() -> None:
    found = sizes(PredictedMachine("h100", 8), Budget(seconds=DAY))
    assert {size.is_fitted for size in found} == {True, False}
    assert all(size.parameters >= 44e6 and size.tokens >= 5e9 for size in found if size.is_fitted)


def test_tokens_are_a_budget_too() -> None:
    size = recommended(sizes(PredictedMachine("h100", 8), Budget(tokens=5 * 10**9)))
    assert size.tokens == 5 * 10**9
    assert size.parameters == pytest.approx(250e6, rel=0.3)
    assert size.tokens_per_second is not None
    assert size.seconds == pytest.approx(5e9 / size.tokens_per_second)


def test_a_family_shares_the_time_and_the_text_bounds_the_tokens() -> None:
    clock = Clock()
    half = recommended(sizes(clock.machine, Budget(seconds=6000, line=0.5)))
    assert half.seconds == pytest.approx(6000, rel=1e-6)
    bounded = recommended(sizes(clock.machine, Budget(seconds=6000, most_tokens=1e6)))
    assert bounded.tokens == 10**6
    assert bounded.seconds is not None
    assert bounded.seconds < 600
    assert bounded.parameters < half.parameters


def test_text_that_is_read_again_counts_less_in_the_expected_loss() -> None:
    machine = PredictedMachine("h100", 8)
    new = recommended(sizes(machine, Budget(tokens=5 * 10**9)))
    read = {times: recommended(sizes(machine, Budget(tokens=5 * 10**9, unique_tokens=5e9 / times))) for times in (1, 4)}
    assert read[1].expected_loss == new.expected_loss
    worth = round(5e9 / 4 * (1 + 15.39 * (1 - math.exp(-3 / 15.39))))  # Muennighoff et al. 2023
    assert read[4].expected_loss == pytest.approx(new.fit.loss(new.parameters, worth))
    assert read[4].expected_loss > new.expected_loss


def test_of_this_machine_only_shapes_near_the_recommended_one_are_measured_and_that_one_is() -> None:
    clock = Clock()
    found = sizes(clock.machine, Budget(seconds=720))
    size = recommended(found)
    assert size.is_measured
    assert size.shape.width in clock.measured
    assert len(clock.measured) <= 4 < len(found)
    for other in found:
        if other.shape.width in clock.measured:
            assert other.tokens_per_second == pytest.approx(
                clock.flops(other.shape.width) / other.shape.flops_per_token
            )


def test_speeds_between_measured_shapes_are_interpolated() -> None:
    clock = Clock()
    found = sizes(clock.machine, Budget(seconds=3600))
    for size in found:
        true = clock.flops(size.shape.width) / size.shape.flops_per_token
        assert size.tokens_per_second is not None
        assert abs(math.log(size.tokens_per_second / true)) < math.log(2.6)


def test_what_does_not_fit_in_memory_is_not_recommended() -> None:
    found = sizes(Clock(memory=200_000_000).machine, Budget(seconds=100 * DAY))
    assert recommended(found).parameters * 16 < 200e6
    assert any(size.tokens_per_second is None and size.seconds is None for size in found)
    with pytest.raises(PlanError, match="no shape fits in memory"):
        sizes(Clock(memory=1000).machine, Budget(seconds=DAY))


def test_a_size_is_plain_data_for_json() -> None:
    size: Size = recommended(sizes(Clock().machine, Budget(seconds=720)))
    plain = size.as_dict()
    assert plain["parameters"] == size.parameters
    assert plain["is_recommended"] is True
