"""A family's results belong to its recipe: other keys that decide the weights are refused, all others may change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tinyllama.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import MakeFamily
    from tinyllama.family import Family

HARMLESS = ("name=other", "license=mit", "hardware.micro_batch=2", "evaluation.prompts=[]", "stages.2.until=30K")
PHASES: tuple[Callable[[Family], object], ...] = (
    lambda family: family.evaluate(),
    lambda family: family.export(),
    lambda family: family.export("gguf"),
    lambda family: family.report(),
)


def test_a_recipe_with_other_weights_is_refused_by_name_in_every_phase(make_trained: MakeFamily) -> None:
    for override, message in {
        "optimizer.weight_decay=0.2": "base/.* was made with optimizer.weight_decay = ",
        "model.layers=3": "base/.* was made with model.layers = ",
        "base={prose: 50%, code: 50%}": "base/.* was made with base = ",
        "variants.v1.1={prose: 50%, chinese: 50%}": "v1.1/.* was made with variants.v1.1 = ",
        "stages.2.until=14K": "v1.1/.* is past the end of the plan",
    }.items():
        for phase in PHASES:
            with pytest.raises(CheckpointError, match=message):
                phase(make_trained("family", override))
        assert not (make_trained().folder / "evaluation").exists(), override
    with pytest.raises(CheckpointError, match=r"v1\.1/.* is past the end of the plan"):
        make_trained("family", "stages.2.until=14K").train("v1.1")


def test_a_recipe_with_other_keys_that_decide_nothing_keeps_its_models(make_trained: MakeFamily) -> None:
    before = make_trained().finished()
    assert list(before) == ["base", "v1.1", "math_code"]
    assert make_trained("family", *HARMLESS).finished() == before
