"""One rank's memory, measured without its GPU."""

import json

import pytest
from torch import distributed

from tests.command import run
from tinyllama.errors import RecipeError
from tinyllama.recipe import load_recipe
from tinyllama.train.memory import measure_memory

SMALL = ("model.layers=3", "model.width=512", "model.ffn=1408", "model.heads=8", "model.vocab_size=4000")
"""The flagship's context and cluster, with a model that is traced in a second."""
CARD = 40 * 2**30


def test_state_is_divided_among_the_gpus_of_a_node_and_replicated_between_nodes() -> None:
    recipe = load_recipe("tinyllama-v1.1", SMALL)
    measured = measure_memory(recipe, 64, 4, CARD)
    quarter = recipe.model.parameters  # 4 bytes each, on 4 GPUs
    assert (measured.weights, measured.gradients, measured.moments) == (quarter, quarter, 2 * quarter)
    assert measured.total == 4 * quarter + measured.activations
    assert not distributed.is_initialized()


def test_activation_checkpointing_and_smaller_passes_hold_less() -> None:
    settings = ([], ["hardware.activation_checkpointing=true"], ["hardware.micro_batch=1"])
    plain, recomputed, narrow = (
        measure_memory(load_recipe("tinyllama-v1.1", [*SMALL, *some]), 8, 4, CARD).activations for some in settings
    )
    assert recomputed < 0.8 * plain
    assert narrow < 0.5 * plain


def test_ranks_that_cannot_share_are_refused() -> None:
    with pytest.raises(RecipeError, match="do not divide 6 ranks"):
        measure_memory(load_recipe("tinyllama-v1.1", [*SMALL, "hardware.shard=4"]), 6, 6, 0)


@pytest.mark.parametrize(("width", "code"), [(64, 0), (65536, 1)])
def test_the_rehearsal_fails_where_a_card_is_too_small(width: int, code: int) -> None:
    sets = ["--set", f"model.width={width}", "--set", f"model.ffn={2 * width}"]
    done = run("rehearse", "nano", "--hardware", "a100-40g", "--gpus", "64", "--json", *sets)
    assert done.returncode == code, done.stderr
    memory = json.loads(done.stdout)["memory_per_gpu"]
    assert memory["fits"] is (code == 0)
    assert memory["limit"] == int(38.5 * 2**30)
    assert ("does not fit a100-40g" in done.stderr) is (code == 1)
