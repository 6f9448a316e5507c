"""The prediction of a step's time against speeds that others published.

Facts from public tables; of each card one row fits its utilization, and the others are predicted. llm-foundry's MPT has
learned positions and a feed-forward layer of two matrices of 4 x width; the rows use a Llama of the same width, depth,
vocabulary and number of weights.
"""

from dataclasses import dataclass, replace
from functools import cache

import pytest

from tinyllama.errors import PlanError
from tinyllama.plan.cards import GPUS, Utilization, full_name
from tinyllama.plan.step_time import Cluster, predict_step
from tinyllama.recipe import Recipe, load_recipe

FOUNDRY = "github.com/mosaicml/llm-foundry scripts/train/benchmarking/README.md, 8c8dd48"
TINYLLAMA = "github.com/jzhang38/TinyLlama README.md; pretrain/tinyllama.py; PRETRAIN.md: two nodes"
TITAN_H100 = "github.com/pytorch/torchtitan benchmarks/llama3_h100_202412_torchtitan.md"
"""With torch.compile; at 500 W, where an H100 SXM has 700 W, and with memory of 2.4 TB/s."""
TITAN_A100 = "github.com/pytorch/torchtitan docs/performance.md, 0413364"
LLMQ = "github.com/IST-DASLab/llmq README.md and benchmarks/, b77d969"
"""CUDA without PyTorch, moments in bf16; rows of the L40S have two digits."""
LLAMA_FACTORY = "github.com/IST-DASLab/llmq benchmarks/4090x1.md and 4090x4.md, b77d969"
"""PyTorch with Liger kernels; it checkpoints activations unless told otherwise, and weights and moments are in bf16."""

SHAPES = {  # layers, width, inner width, heads, key-value heads, vocabulary, context, tied
    "mpt-125m": (12, 768, 2048, 12, 12, 50368, 2048, True),
    "mpt-350m": (24, 1024, 2731, 16, 16, 50368, 2048, True),
    "mpt-760m": (24, 1536, 4096, 12, 12, 50368, 2048, True),
    "mpt-1b": (24, 2048, 5461, 16, 16, 50368, 2048, True),
    "mpt-3b": (32, 2560, 6827, 20, 20, 50368, 2048, True),
    "mpt-7b": (32, 4096, 10923, 32, 32, 50368, 2048, True),
    "mpt-13b": (40, 5120, 13653, 40, 40, 50368, 2048, True),
    "tinyllama": (22, 2048, 5632, 32, 4, 32000, 2048, False),
    "llama2-13b": (40, 5120, 13824, 40, 40, 32000, 4096, False),
    "llama3-8b": (32, 4096, 14336, 32, 8, 128256, 8192, False),
    "qwen-0.5b": (24, 896, 4864, 14, 2, 151936, 1024, True),
    "qwen-1.5b": (28, 1536, 8960, 12, 2, 151936, 1024, True),
    "qwen-3b": (36, 2048, 11008, 16, 2, 151936, 1024, True),
}
PARAMETERS = {"mpt-125m": 125, "mpt-350m": 356, "mpt-760m": 760, "mpt-1b": 1316, "mpt-3b": 2652, "mpt-7b": 6659} | {
    "mpt-13b": 12854,
    "tinyllama": 1100,
    "llama2-13b": 13016,
}
"""Published, in millions; MPT's with its table of positions, which is 1.3% of the smallest."""


@dataclass(frozen=True)
class Row:
    """A published speed."""

    card: str
    model: str
    gpus: int
    micro_batch: int
    passes: int
    published: float
    """Tokens per second and GPU."""
    source: str
    recomputed: float = 0.0
    """Of the blocks' forward pass: 1 with activation checkpointing, 1/2 if it keeps every second product."""
    shard: str = "all"


FOUNDRY_ROWS = """
a100-40g mpt-125m kept:  8 26 3 136334, 16 26 1 130535, 32 26 1 127122, 64 26 1 125234, 128 26 1 123936
a100-40g mpt-350m kept:  8 16 4 55995, 16 18 1 55413, 32 18 1 53811, 64 18 1 52689, 128 18 1 51934
a100-40g mpt-760m kept:  8 12 4 30173, 16 12 1 29607, 32 12 1 29648, 64 12 1 29344, 128 12 1 28940
a100-40g mpt-1b kept:    8 8 8 19271, 16 8 1 19085, 32 10 1 15555, 64 10 1 19001, 128 10 1 18647
a100-40g mpt-3b kept:    8 5 8 10065, 16 5 1 9750, 32 6 1 9914, 64 6 1 9736, 128 6 1 9538
a100-40g mpt-7b again:   8 12 4 3679, 16 16 1 3645, 32 18 1 3725, 64 18 1 3665, 128 18 1 3623
a100-40g mpt-13b again:  8 4 16 1668, 16 10 1 1993, 32 14 1 1998, 64 16 1 1976, 128 16 1 1972
a100-80g mpt-125m kept:  8 32 2 141737, 8 40 2 142830
a100-80g mpt-350m kept:  8 32 2 58782
a100-80g mpt-760m kept:  8 24 2 32434
a100-80g mpt-1b kept:    8 14 4 20513
a100-80g mpt-3b kept:    8 10 2 10811
a100-80g mpt-7b kept:    8 6 2 4641
a100-80g mpt-13b kept:   8 2 3 2262
h100-80g mpt-760m kept:  8 24 2 63147, 16 24 1 68551, 32 24 1 67971
h100-80g mpt-1b kept:    8 14 1 45455, 16 20 1 46037, 32 20 1 45130, 64 20 1 44402, 128 12 1 44123
h100-80g mpt-1b kept:    256 12 1 42555, 512 12 1 39837
h100-80g mpt-3b kept:    16 10 3 24142, 32 6 3 23021, 64 6 3 22525, 128 8 1 23422, 256 8 1 22772, 512 8 1 21664
h100-80g mpt-7b kept:    8 6 1 10643, 128 6 1 10475, 256 6 1 10119, 512 6 1 9670
h100-80g mpt-13b kept:   8 2 1 4792, 16 2 1 4767, 32 2 1 4811, 64 2 1 4800
h100-80g mpt-13b again:  128 16 1 5080, 256 16 1 4989, 512 16 1 4952
"""
"""Every row in bf16 with 2,048 tokens and at most 13B weights: GPUs, micro-batch, passes, tokens per second and GPU."""


def foundry_rows() -> list[Row]:
    found = []
    for line in FOUNDRY_ROWS.split("\n")[1:-1]:
        about, rows = line.split(":")
        card, model, blocks = about.split()
        for row in rows.split(","):
            gpus, micro_batch, passes, speed = map(int, row.split())
            found.append(Row(card, model, gpus, micro_batch, passes, speed, FOUNDRY, float(blocks == "again")))
    return found


ROWS = [
    *foundry_rows(),
    Row("a100-40g", "tinyllama", 16, 8, 8, 24_000, TINYLLAMA),
    Row("a100-80g", "llama2-13b", 64, 2, 1, 2162, TITAN_A100),
    Row("a100-80g", "llama2-13b", 64, 2, 1, 1914, TITAN_A100, recomputed=1 / 2),
    Row("a100-80g", "llama3-8b", 64, 1, 1, 2904, TITAN_A100, recomputed=1 / 2),
    Row("h100-80g", "llama3-8b", 8, 2, 1, 6667, TITAN_H100, recomputed=1 / 2),
    Row("h100-80g", "llama3-8b", 128, 2, 1, 6514, TITAN_H100, recomputed=1 / 2),
    Row("l40s-48g", "qwen-0.5b", 1, 16, 32, 44_000, LLMQ),
    Row("l40s-48g", "qwen-1.5b", 1, 8, 64, 17_000, LLMQ),
    Row("l40s-48g", "qwen-3b", 1, 4, 128, 8_900, LLMQ),
    Row("l40s-48g", "qwen-0.5b", 4, 16, 8, 169_000 / 4, LLMQ, shard="none"),
    Row("l40s-48g", "qwen-1.5b", 4, 8, 16, 65_000 / 4, LLMQ, shard="none"),
    Row("l40s-48g", "qwen-3b", 4, 8, 16, 35_000 / 4, LLMQ, shard="none"),
    Row("rtx4090-24g", "qwen-0.5b", 1, 128, 4, 30_183, LLAMA_FACTORY, recomputed=1),
    Row("rtx4090-24g", "qwen-1.5b", 1, 32, 16, 9_419, LLAMA_FACTORY, recomputed=1),
    Row("rtx4090-24g", "qwen-0.5b", 4, 128, 1, 122_784 / 4, LLAMA_FACTORY, recomputed=1, shard="none"),
    Row("rtx4090-24g", "qwen-1.5b", 4, 32, 4, 40_960 / 4, LLAMA_FACTORY, recomputed=1, shard="none"),
    Row("rtx4090-24g", "qwen-0.5b", 1, 16, 32, 39_842, LLMQ),
    Row("rtx4090-24g", "qwen-1.5b", 1, 4, 128, 14_063, LLMQ),
    Row("rtx4090-24g", "qwen-0.5b", 4, 16, 8, 154_000 / 4, LLMQ, shard="none"),
    Row("rtx4090-24g", "qwen-1.5b", 4, 8, 16, 52_418 / 4, LLMQ, shard="none"),
    Row("h100-80g", "qwen-0.5b", 1, 32, 16, 149_000, LLMQ),
    Row("h100-80g", "qwen-1.5b", 1, 32, 16, 58_710, LLMQ),
    Row("h100-80g", "qwen-3b", 1, 16, 32, 30_958, LLMQ),
    Row("h100-80g", "qwen-0.5b", 8, 32, 2, 1_127_000 / 8, LLMQ, shard="none"),
    Row("h100-80g", "qwen-1.5b", 8, 32, 2, 456_000 / 8, LLMQ, shard="none"),
    Row("h100-80g", "qwen-3b", 8, 16, 4, 240_000 / 8, LLMQ, shard="none"),
]


FITTED = {
    ("a100-40g", "mpt-1b", 8, FOUNDRY),
    ("a100-80g", "mpt-1b", 8, FOUNDRY),
    ("h100-80g", "mpt-1b", 8, FOUNDRY),
    ("l40s-48g", "qwen-1.5b", 1, LLMQ),
    ("rtx4090-24g", "qwen-1.5b", 4, LLAMA_FACTORY),
    ("a100-80g", "mpt-350m", 8, FOUNDRY),
}
"""The first five fit utilizations, the last how much less a narrow model reaches on all cards."""
NOT_PREDICTED = {
    ("a100-40g", "mpt-1b", 32, FOUNDRY): 1.24,
    **{("h100-80g", f"qwen-{size}", gpus, LLMQ): 0.67 for size in ("0.5b", "1.5b", "3b") for gpus in (1, 8)},
    **{("rtx4090-24g", "qwen-0.5b", gpus, LLMQ): 0.84 for gpus in (1, 4)},
}
"""What is predicted over what was published."""


def key(row: Row) -> tuple[str, str, int, str]:
    return row.card, row.model, row.gpus, row.source


def name_of(row: Row) -> str:
    return f"{row.model} on {row.gpus} {row.card}"


@cache
def recipe_of(model: str, shard: str, *, checkpointing: bool) -> Recipe:
    names = ("layers", "width", "ffn", "heads", "kv_heads", "vocab_size", "context", "tied_embeddings")
    shape = [f"model.{name}={str(value).lower()}" for name, value in zip(names, SHAPES[model], strict=True)]
    hardware = [f"hardware.shard={shard}", f"hardware.activation_checkpointing={str(checkpointing).lower()}"]
    return load_recipe("tinyllama-v1.1", [*shape, *hardware])


def utilization_of(row: Row) -> Utilization:
    return GPUS[row.card].utilization.at(SHAPES[row.model][1])


def speed(row: Row, utilization: float | None = None) -> float:
    """Predicted tokens per second and GPU; selective checkpointing is between all and none."""
    used = utilization or utilization_of(row).value
    cluster = Cluster(GPUS[row.card], row.gpus, min(row.gpus, 8), used)
    sequences = row.gpus * row.micro_batch * row.passes
    recipes = [recipe_of(row.model, row.shard, checkpointing=checkpointing) for checkpointing in (False, True)]
    kept, again = (predict_step(recipe, cluster, sequences, row.micro_batch).seconds for recipe in recipes)
    seconds = kept + row.recomputed * (again - kept)
    return row.micro_batch * row.passes * recipes[0].model.context / seconds


@pytest.mark.parametrize("row", [row for row in ROWS if key(row) in FITTED], ids=name_of)
def test_the_utilization_of_each_card_is_what_its_fitted_row_implies(row: Row) -> None:
    assert speed(row) == pytest.approx(row.published, rel=0.01)


def test_each_card_has_one_fitted_row_or_says_whose_utilization_it_has() -> None:
    narrow = ("a100-80g", "mpt-350m", 8, FOUNDRY)
    own = sorted(name for name, gpu in GPUS.items() if gpu.utilization.assumed_of is None)
    assert sorted(card for card, *_ in FITTED - {narrow}) == own
    for gpu in GPUS.values():
        if (other := gpu.utilization.assumed_of) is not None:
            assert replace(gpu.utilization, assumed_of=None) == GPUS[other].utilization


def test_cards_are_found_without_their_memory_where_that_is_clear() -> None:
    assert full_name("h100") == full_name("H100") == "h100-80g"
    with pytest.raises(PlanError, match="may be a100-40g or a100-80g; write"):
        full_name("a100")
    with pytest.raises(PlanError, match="no GPU is named 'h1000'"):
        full_name("h1000")


def test_every_card_names_where_its_figures_were_published() -> None:
    assert all(gpu.sheet.startswith(("https://", "NVIDIA's ")) for gpu in GPUS.values())


@pytest.mark.parametrize("row", [row for row in ROWS if key(row) not in FITTED | set(NOT_PREDICTED)], ids=name_of)
def test_a_published_speed_that_fitted_nothing_is_predicted_within_15_percent(row: Row) -> None:
    assert speed(row) == pytest.approx(row.published, rel=0.15)


def test_tinyllamas_24000_tokens_a_second_follow_from_another_models_speed() -> None:
    (row,) = [row for row in ROWS if row.model == "tinyllama"]
    assert speed(row) == pytest.approx(24_000, rel=0.02)


@pytest.mark.parametrize("row", [row for row in ROWS if key(row) in NOT_PREDICTED], ids=name_of)
def test_rows_that_are_not_predicted_are_known(row: Row) -> None:
    """One is 18% slower than the same model on 16 and on 64 cards; the others are CUDA, faster than PyTorch."""
    assert speed(row) / row.published == pytest.approx(NOT_PREDICTED[key(row)], abs=0.02)


def test_the_range_of_a_cards_utilization_is_what_its_rows_imply() -> None:
    for card in {row.card for row in ROWS}:
        used, rows = GPUS[card].utilization, [row for row in ROWS if row.card == card]
        for value, least in ((used.low, 1.0), (used.high, 0.0)):
            ratios = [speed(row, value / used.value * utilization_of(row).value) / row.published for row in rows]
            assert (max(ratios) if least else min(ratios)) == pytest.approx(1, abs=0.015), card


def test_the_models_have_the_published_numbers_of_weights() -> None:
    for name, millions in PARAMETERS.items():
        assert recipe_of(name, "all", checkpointing=False).model.parameters / 1e6 == pytest.approx(millions, rel=0.015)
