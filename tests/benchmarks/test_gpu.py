"""What benchmarks/gpu.py decides before a GPU is there."""

import importlib
import time
from pathlib import Path
from typing import Any

import pytest

from tinyllama.recipe import load_recipe

FOLDER = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401  # a module
    """The benchmark, which finds its runner beside it."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("gpu")


@pytest.mark.parametrize(
    ("visible", "card"), [(None, "0"), ("", "0"), ("3", "3"), ("2,0", "2"), ("GPU-8f6b, 1", "GPU-8f6b")]
)
def test_memory_is_read_of_the_card_that_is_visible(gpu: Any, visible: str | None, card: str) -> None:  # noqa: ANN401
    assert gpu.visible_card({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == card


def test_the_flagship_warms_up_slowly_and_its_batch_divides_into_its_passes(gpu: Any) -> None:  # noqa: ANN401
    found = list(gpu.contestants(gpu.MICRO_BATCHES))
    assert [(one.precision, one.micro_batch, one.passes) for one in found if one.name == gpu.OURS][:3] == [
        ("bf16", 16, 1),
        ("fp8", 16, 1),
        ("bf16", 16, 8),
    ]
    smaller = [(one.name, one.precision) for one in found if one.micro_batch == 8]
    assert smaller == [(gpu.OURS, "bf16"), (gpu.LOOP, "bf16"), (gpu.OURS, "fp8")]
    many = next(one for one in found if one.passes > 1)
    sized = gpu.replace(gpu.FLAGSHIP, batch=many.micro_batch * many.passes)
    recipe = load_recipe(str(gpu.RECIPE), gpu.overrides_of(many, sized))
    rate = recipe.optimizer.learning_rate
    assert (rate.warmup, rate.peak) == (4_000_000, 4e-4)
    assert sized.tokens == 8 * 16 * 2048
    assert len({gpu.label_of(one) for one in found}) == len(found)


def test_no_configuration_outlives_the_budget(gpu: Any) -> None:  # noqa: ANN401
    now = time.monotonic()
    assert gpu.seconds_left(now + 1000, 240) == 240
    assert 90 < gpu.seconds_left(now + 100, 240) <= 100
    assert gpu.seconds_left(now - 5, 240) == 1
