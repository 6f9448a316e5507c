import json

import pytest

from tests.command import run
from tinyllama.errors import PlanError, RecipeError
from tinyllama.plan import Plan, compile_plan
from tinyllama.plan.cards import GPUS, find_gpu
from tinyllama.plan.hardware import Prediction, memory_per_gpu, predict
from tinyllama.plan.step_time import flops_formulas
from tinyllama.recipe import Recipe, load_recipe

RECIPE = load_recipe("tinyllama-v1.1")
PUBLISHED_SPEED = 24_000
"""Tokens/s on each of 16 A100-40G, published by TinyLlama."""
CARD = GPUS["a100-40g"].usable


@pytest.fixture(scope="module")
def plans() -> list[Plan]:
    return [compile_plan(RECIPE, variant) for variant in RECIPE.variants]


def _predict(plans: list[Plan], gpus: int = 16, recipe: Recipe = RECIPE, price: float | None = None) -> Prediction:
    return predict(recipe, plans, "a100-40g", gpus, price=price)


@pytest.mark.parametrize(
    ("name", "dense_bf16", "gib"),
    [
        ("a100-40g", 312e12, 40),
        ("a100-80g", 312e12, 80),
        ("h100-80g", 1978.9e12 / 2, 80),
        ("h200-141g", 1978.9e12 / 2, 141),
        ("l40s-48g", 362.05e12, 48),
        ("rtx4090-24g", 165.2e12, 24),
        ("b200-180g", 72e15 / 8 / 2 / 2, 180),  # a DGX B200's FP8 with sparsity
        ("mi300x-192g", 1307.4e12, 192),
        ("a10-24g", 125e12, 24),
        ("l4-24g", 242e12 / 2, 24),  # with sparsity
        ("t4-16g", 65e12, 16),
        ("rtx3090-24g", 71e12, 24),
        ("rtx5090-32g", 209.5e12, 32),
        ("m1-max-64g", 10.4e12, 48),
        ("m2-24g", 3.6e12, 18),
        ("m2-ultra-192g", 27.2e12, 144),
    ],
)
def test_peaks_are_those_of_the_data_sheets_without_sparsity(name: str, dense_bf16: float, gib: int) -> None:
    assert find_gpu(name).flops == pytest.approx(dense_bf16, rel=1e-3)
    assert find_gpu(name).memory_gib == gib


def test_every_card_of_the_table_is_tested() -> None:
    (listed,) = (mark.args[1] for mark in test_peaks_are_those_of_the_data_sheets_without_sparsity.pytestmark)
    assert set(GPUS) == {name for name, *_ in listed}


def test_three_trillion_tokens_take_90_days_on_16_a100(plans: list[Plan]) -> None:
    prediction = _predict(plans)
    assert prediction.tokens_per_second_per_gpu == pytest.approx(PUBLISHED_SPEED, rel=0.01)
    family = sum(span.tokens for span in prediction.spans)
    assert family == pytest.approx(3e12, rel=1e-4)  # 1.5T once, and 0.5T for each of three variants
    assert sum(span.days for span in prediction.spans) == pytest.approx(90, abs=1)


def test_three_hundred_billion_tokens_take_3456_gpu_hours(plans: list[Plan]) -> None:
    hours = 300e9 / _predict(plans).tokens_per_second_per_gpu / 3600
    assert hours == pytest.approx(3456, rel=0.01)


def test_56_percent_is_the_formula_of_attention_as_if_not_causal(plans: list[Plan]) -> None:
    mfu = {name: PUBLISHED_SPEED * flops / 312e12 for name, flops in flops_formulas(RECIPE.model).items()}
    assert mfu == pytest.approx({"6(N - E) + 6LDT (causal)": 0.520, "6(N - E) + 12LDT": 0.563, "6N": 0.508}, abs=1e-3)
    speed = _predict(plans).tokens_per_second_per_gpu
    assert _predict(plans).mfu_by_formula == pytest.approx({name: mfu[name] * speed / PUBLISHED_SPEED for name in mfu})


def test_the_base_alone_is_one_span(plans: list[Plan]) -> None:
    assert _predict([compile_plan(RECIPE, "base")]).spans == _predict(plans).spans[:1]


def test_the_flagship_fits_its_published_cards_sharded_in_a_node_and_not_unsharded_with_twice_the_batch(
    plans: list[Plan],
) -> None:
    assert _predict(plans).fits
    assert _predict(plans).sharded_over == 4
    heavy = load_recipe("tinyllama-v1.1", ["hardware.shard=none", "hardware.micro_batch=16"])
    assert not _predict(plans, recipe=heavy).fits
    light = load_recipe("tinyllama-v1.1", ["hardware.activation_checkpointing=true", "hardware.micro_batch=16"])
    assert _predict(plans, recipe=light).fits


def test_checkpointing_pays_for_memory_with_the_blocks_forward_pass(plans: list[Plan]) -> None:
    overrides = ["hardware.micro_batch=4", "hardware.activation_checkpointing=true"]
    plain, checkpointed = (_predict(plans, recipe=load_recipe("tinyllama-v1.1", overrides[:n])) for n in (1, 2))
    assert 4 / 3 - 0.03 < checkpointed.step.products / plain.step.products < 4 / 3  # the head runs once
    assert checkpointed.memory.activations < plain.memory.activations / 5


def test_an_mfu_takes_the_place_of_the_cards_utilization(plans: list[Plan]) -> None:
    prediction = predict(RECIPE, plans, "a100-40g", 1, mfu=0.3, price=None)
    assert 0.29 < prediction.mfu < 0.3  # the update is beside it


def test_state_is_16_bytes_a_weight_over_the_ranks_that_share_it() -> None:
    memory = memory_per_gpu(RECIPE, 4, CARD)
    assert memory.weights + memory.gradients + memory.moments == 16 * 1_100_048_384 // 4


def test_weights_that_are_sharded_stay_gathered_where_they_are_a_tenth_of_the_memory_or_one_rank_has_all() -> None:
    whole = 2 * RECIPE.model.parameters
    gathered, in_parts, alone = (memory_per_gpu(RECIPE, *case) for case in ((4, 10 * whole), (4, 9 * whole), (1, 0)))
    assert gathered.working == alone.working > whole > in_parts.working


def test_muon_keeps_one_moment_of_a_matrix_where_adamw_keeps_two() -> None:
    kinds = (load_recipe("tinyllama-v1.1", [f"optimizer.kind={kind}"]) for kind in ("adamw", "muon"))
    adamw, muon = (memory_per_gpu(recipe, 4, CARD) for recipe in kinds)
    saved = 4 * RECIPE.model.block_matrices // 4
    assert adamw.moments - muon.moments == saved
    assert adamw.total - muon.total == saved


def test_cost_is_gpu_hours_times_price_and_unknown_without_one(plans: list[Plan]) -> None:
    priced = _predict(plans, price=2.0)
    assert [span.cost for span in priced.spans] == pytest.approx([2 * span.gpu_hours for span in priced.spans])
    assert all(span.cost is None for span in _predict(plans).spans)


def test_an_unknown_card_is_refused_with_the_nearest(plans: list[Plan]) -> None:
    with pytest.raises(PlanError, match="did you mean 'a100-40g'"):
        predict(RECIPE, plans, "a100-40gb", 16, price=None)


def test_nodes_that_do_not_divide_the_gpus_are_refused(plans: list[Plan]) -> None:
    with pytest.raises(PlanError, match="16 GPUs are not the same number on each of 3 nodes; give a divisor of 16"):
        predict(RECIPE, plans, "a100-40g", 16, nodes=3, price=None)


def test_groups_that_do_not_divide_the_ranks_are_refused() -> None:
    hardware = load_recipe("nano", ["hardware.shard=3"]).hardware
    with pytest.raises(RecipeError, match=r"groups of 3 ranks, which do not divide 4"):
        hardware.sharded_over(4, 2)


@pytest.mark.parametrize(("shard", "size"), [("node", 4), ("all", 16), ("none", 1), ("8", 8)])
def test_what_shard_means(shard: str, size: int) -> None:
    assert load_recipe("nano", [f"hardware.shard={shard}"]).hardware.sharded_over(16, 4) == size


def test_the_command_prints_formula_and_days() -> None:
    words = ["plan", "nano", "--hardware", "a100-40g", "--gpus", "2"]
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert "bound by launches" in done.stdout
    assert (
        "at 9.7% of the peak at this width (published speeds: 8% to 11%; fitted to llm-foundry's 1B model on 8 A100-40G"
        in done.stdout
    )
    assert "needs --price" in done.stdout
    result = json.loads(run(*words, "--json", "--price", "1").stdout)
    assert result["hardware"]["fits"]
    assert [span["name"] for span in result["hardware"]["spans"]] == ["base", "v1.1", "math_code", "chinese"]
