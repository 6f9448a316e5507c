"""Parts of a step's time that published speeds do not show: each binds where it should."""

import pytest

from tinyllama.plan import compile_plan
from tinyllama.plan.cards import GPUS
from tinyllama.plan.hardware import Prediction, predict
from tinyllama.plan.step_time import Cluster, StepTime, predict_step
from tinyllama.recipe import load_recipe

FIVE_BILLION = ("layers=48", "width=3072", "ffn=8192", "heads=24", "kv_heads=8")
"""In docs/scale.md, too."""


def step_of(
    card: str, gpus: int, *overrides: str, sequences: int = 16, per_node: int = 8, micro_batch: int = 1
) -> StepTime:
    recipe = load_recipe("tinyllama-v1.1", overrides)
    used = GPUS[card].utilization.at(recipe.model.width).value
    return predict_step(recipe, Cluster(GPUS[card], gpus, min(gpus, per_node), used), sequences, micro_batch)


def predicted(name: str, card: str, gpus: int, *overrides: str, nodes: int | None = None) -> Prediction:
    recipe = load_recipe(name, overrides)
    return predict(recipe, [compile_plan(recipe, "base")], card, gpus, nodes=nodes, price=None)


def test_one_gpu_sends_nothing() -> None:
    assert step_of("h100-80g", 1).collectives == 0


def test_a_family_of_tiny_models_is_bound_by_launches_not_ten_million_tokens_a_second() -> None:
    prediction = predicted("nano", "rtx4090-24g", 2)
    assert prediction.step.bound_by == "launches"
    assert prediction.tokens_per_second_per_gpu < 500_000


def test_more_passes_launch_more() -> None:
    few, many = (step_of("h100-80g", 1, sequences=64, micro_batch=size).launches for size in (64, 1))
    assert many > 10 * few


def test_small_passes_over_pcie_and_ethernet_are_bound_by_collectives_where_nvlink_and_infiniband_hide_them() -> None:
    slow, fast = (step_of(card, 16, "hardware.shard=all") for card in ("l40s-48g", "h100-80g"))
    assert slow.bound_by == "collectives"
    assert slow.exposed > 0.5 * slow.seconds
    assert fast.exposed < 0.4 * fast.seconds


def test_sharding_in_the_node_sends_less_between_nodes_than_sharding_over_all() -> None:
    """Four cards of a node share 100 GB/s between nodes, where NVLink has 300."""
    node, everywhere = (
        step_of("a100-40g", 64, f"hardware.shard={shard}", sequences=640, per_node=4) for shard in ("node", "all")
    )
    assert node.collectives < 0.5 * everywhere.collectives


def test_sharding_nothing_sums_all_gradients_once_in_a_step() -> None:
    few, many = (step_of("h100-80g", 8, "hardware.shard=none", sequences=8 * n).collectives for n in (1, 10))
    assert few == many > 0
    few, many = (step_of("h100-80g", 8, sequences=8 * n).collectives for n in (1, 10))
    assert many == pytest.approx(10 * few)


def test_the_time_of_collectives_is_bytes_over_the_speed_of_the_links() -> None:
    """In a node of 8 H100: bf16 weights but embeddings and head twice, all weights once, in fp32 once: 7/8 of them."""
    shape = load_recipe("tinyllama-v1.1").model
    tables = 2 * shape.vocab_size * shape.width + shape.width
    sent = 7 / 8 * (4 * (shape.parameters - tables) + 2 * tables + 4 * shape.parameters)
    assert step_of("h100-80g", 8, sequences=8).collectives == pytest.approx(sent / (0.8 * 450e9), rel=0.15)


def test_nodes_of_fewer_cards_share_fewer_links() -> None:
    one, four = (predicted("tinyllama-v1.1", "a100-80g", 16, "hardware.shard=all", nodes=n) for n in (2, 4))
    assert one.step.collectives < four.step.collectives


def test_muon_orthogonalizes_49_tflop_for_the_flagship() -> None:
    adamw, muon = (step_of("h100-80g", 1, f"optimizer.kind={kind}") for kind in ("adamw", "muon"))
    card = GPUS["h100-80g"]
    assert (muon.memory - adamw.memory) * card.flops * card.utilization.value == pytest.approx(49e12, rel=0.05)


def test_a_slow_feed_binds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinyllama.plan.step_time._FEED", 1e3)
    slow = step_of("h100-80g", 8)
    assert slow.bound_by == "feed"
    assert slow.seconds == slow.feed == 2 * 2048 / 1e3


@pytest.mark.parametrize("card", ["a100-40g", "a100-80g", "h100-80g"])
def test_a_model_of_5_billion_weights_fits_without_tensor_parallelism_and_hides_its_collectives(card: str) -> None:
    shape = [f"model.{text}" for text in FIVE_BILLION]
    prediction = predicted("tinyllama-v1.1", card, 64, *shape, "hardware.shard=all")
    assert load_recipe("tinyllama-v1.1", shape).model.parameters > 5e9
    assert prediction.fits
    assert prediction.step.exposed < 0.02 * prediction.step.seconds


def test_tensor_parallelism_in_a_node_would_expose_more_than_sharding_does() -> None:
    """It sums the activations of a node's four micro-batches twice forward and twice backward in each block."""
    recipe = load_recipe("tinyllama-v1.1", shape := [f"model.{text}" for text in FIVE_BILLION])
    prediction = predicted("tinyllama-v1.1", "a100-40g", 64, *shape, "hardware.shard=all")
    activations = 2 * 4 * prediction.micro_batch * recipe.model.context * recipe.model.width
    each = 2 * 3 / 4 * activations / (0.8 * GPUS["a100-40g"].link)
    summed = 4 * recipe.model.layers * prediction.step.passes * each
    assert summed == pytest.approx(0.85, abs=0.01)
    assert summed > 7 * prediction.step.exposed


def test_a_step_is_as_long_as_the_parts_that_follow_each_other() -> None:
    step = step_of("h100-80g", 8, sequences=75)
    assert (step.sequences, step.passes) == (75, 10)
    assert step.seconds >= step.products + step.memory + step.exposed


def test_each_way_to_shard_is_predicted_as_if_the_recipe_had_it() -> None:
    every = predicted("tinyllama-v1.1", "a100-40g", 16).seconds_by_shard
    for shard, seconds in every.items():
        assert predicted("tinyllama-v1.1", "a100-40g", 16, f"hardware.shard={shard}").step.seconds == seconds
    large = predicted("tinyllama-v1.1", "a100-40g", 16, *(f"model.{text}" for text in FIVE_BILLION))
    assert [shard for shard, seconds in large.seconds_by_shard.items() if seconds is None] == ["none"]


def test_sequences_in_a_pass_are_as_many_as_fit_and_divide_a_gpus_rows() -> None:
    small, large = (predicted("tinyllama-v1.1", card, 16) for card in ("a100-40g", "h200-141g"))
    assert (small.micro_batch, small.step.passes) == (11, 5)  # of 55 rows
    assert (large.micro_batch, large.step.passes) == (28, 2)
