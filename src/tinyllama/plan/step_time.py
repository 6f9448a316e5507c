"""The time of one optimizer step on GPUs, from a few stated assumptions.

FLOPs a token of training (forward once, backward twice) under the three formulas in use, N weights, E of them in
the input embedding, L layers, width D, context T:

    6(N - E) + 6·L·D·T     what we count: each matrix product, attention only where it is causal
    6(N - E) + 12·L·D·T    attention as if it were not causal
    6N                     weights alone (Kaplan et al. 2020)

Model FLOPs utilization (MFU) is tokens/s times one of these over the peak of the card, so it means nothing without its
formula: TinyLlama's 24,000 tokens/s on an A100 are 52% by the first, 56% (the published figure) by the second, and
51% by the third.

The time of a pass is the longest of what runs at once, and of what runs before and after it:

    max(FLOPs / (peak · utilization) + bytes / bandwidth, launches, collectives of the blocks) + collectives of the rest

FSDP gathers the next block and sums the gradients of the block before while a block computes. Not hidden are the
gathering of embeddings, head and norm before the first block, and the summing of their gradients after the last. That
collectives slow the kernels beside them is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyllama.plan.cards import Gpu
    from tinyllama.recipe import ModelShape, Recipe

_BLOCK_TRAFFIC = 12, 2, 3
"""Elements in bf16 that a block's compiled forward pass moves besides its products: multiples of its width (two norms
and two residuals, each read and written), of what RoPE turns, and of the inner width (SwiGLU)."""
_LOSS_TRAFFIC = 10
"""Bytes a logit: read in bf16, its gradient written and read twice, and sums in fp32."""
_PASS_TRAFFIC, _SHARDED_PASS_TRAFFIC = 10, 14
"""Bytes a weight in each pass: bf16 gradients added to fp32; with FSDP, gathered weights and gradients copied."""
_UPDATE_TRAFFIC = 38
"""Bytes a weight in each step: norm, AdamW on weights, gradient and two moments in fp32, rounding."""
_LAUNCH_BLOCK, _LAUNCH_PASS, _LAUNCH_STEP = 0.4e-3, 1e-3, 3e-3
"""Seconds that the host needs to launch a block's forward and backward pass, the rest of a pass, and the rest of a
step. Estimates: about 40 kernels of a compiled block at 10 µs each, with what FSDP does around it."""
_BUS = 0.8
"""Of a link's speed, what collectives reach: NCCL's own model has 240 of an A100's 300 GB/s, 371 of an H100's 450 and
12 of the 16 of PCIe 3.0 (src/graph/topo.h). Assumed between nodes, too."""
_BASE_LATENCY, _NETWORK_HOP = 8.4e-6, 14e-6
"""Seconds of a ring collective, and of each hop between nodes, in NCCL's model (src/graph/tuning.cc, Simple)."""
_FEED = 100e6
"""Tokens per second that one core reads from the page cache (docs/benchmarks.md)."""
_NEWTON_SCHULZ_STEPS = 5


@dataclass(frozen=True)
class Cluster:
    """GPUs, and what is assumed of them."""

    card: Gpu
    gpus: int
    per_node: int
    utilization: float
    """Of matrix products in models of the recipe's width, see `plan/cards.py`."""
    gathered: bool = False
    """Whether sharded weights are gathered once in a step."""
    mfu: float | None = None
    """Of all computation in a pass, by the first formula, in place of utilization and memory traffic."""


@dataclass(frozen=True)
class Collective:
    """One kind of transfer in a step, in which all ranks take part."""

    kind: str
    """`all_gather`, `reduce_scatter` or `all_reduce`."""
    bytes: int
    """Of the whole tensor: what is gathered, or summed."""
    times: int
    """In a step."""
    replicas: bool = False
    """Between the replicas of a group's part, not inside a group."""
    hidden: bool = True
    """Whether blocks compute at the same time."""


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step on each GPU; parts that run at once do not add up to the whole."""

    sequences: int
    """Of the whole batch."""
    passes: int
    seconds: float
    products: float
    """Matrix products and attention."""
    memory: float
    """Memory traffic of the rest: norms, activations, loss, gradients, update."""
    launches: float
    collectives: float
    exposed: float
    """Of the collectives, what no computation hides."""
    feed: float
    bound_by: str
    """The part that takes longest: compute, launches, collectives or feed."""


def flops_formulas(shape: ModelShape) -> dict[str, int]:
    """Training FLOPs a token by each formula in use."""
    return {
        "6(N - E) + 6LDT (causal)": shape.flops_per_token,
        "6(N - E) + 12LDT": shape.flops_per_token + 6 * shape.layers * shape.attention_width * shape.context,
        "6N": 6 * shape.parameters,
    }


def collectives(recipe: Recipe, ranks: int, sharded_over: int, passes: int, *, gathered: bool) -> list[Collective]:
    """What the ranks send in a step.

    Inside a group, each pass gathers the weights in the precision of the products and sums fp32 gradients; a block is
    gathered for its forward and again for its backward pass, unless weights stay `gathered`. Replicas sum the parts of
    the gradients in the last pass.
    """
    shape = recipe.model
    if ranks == 1:
        return []
    rest = (1 if shape.tied_embeddings else 2) * shape.vocab_size * shape.width + shape.width
    weight = 4 if recipe.precision == "fp32" else 2
    found = []
    for size, hidden, each_pass in ((shape.parameters - rest, True, 2), (rest, False, 1)):
        if sharded_over > 1:
            found.append(Collective("all_gather", weight * size, 1 if gathered else each_pass * passes, hidden=hidden))
            found.append(Collective("reduce_scatter", 4 * size, passes, hidden=hidden))
        if ranks > sharded_over:
            found.append(Collective("all_reduce", 4 * size // sharded_over, 1, replicas=True, hidden=hidden))
    if recipe.optimizer.kind == "muon":  # in bf16: momenta, and updates that ranks compute for each other
        both = 2 if sharded_over > 1 else 1
        part = Collective("all_gather", 2 * shape.block_matrices, both, replicas=sharded_over == 1, hidden=False)
        found.append(part)
    return found


def predict_step(recipe: Recipe, cluster: Cluster, sequences: int, micro_batch: int) -> StepTime:
    """Predict the time of a step.

    Args:
        recipe: the model, and how it is sharded.
        cluster: what trains it.
        sequences: of the whole batch.
        micro_batch: sequences in a pass of a GPU.

    Raises:
        RecipeError: `hardware.shard` does not divide the GPUs.
    """
    card, gpus, mfu = cluster.card, cluster.gpus, cluster.mfu
    shape, sharded_over = recipe.model, recipe.hardware.sharded_over(gpus, cluster.per_node)
    rows = -(-sequences // gpus)
    passes = -(-rows // micro_batch)
    tokens = rows * shape.context
    recomputed = recipe.hardware.activation_checkpointing
    used = card.flops * (mfu or cluster.utilization)
    products = tokens * (shape.flops_per_token + recomputed * _block_flops(shape)) / used
    of_weights = passes * (_PASS_TRAFFIC if gpus == 1 else _SHARDED_PASS_TRAFFIC) * shape.parameters
    moved = tokens * _bytes_per_token(shape, 4 if recomputed else 3) + of_weights
    in_passes = 0.0 if mfu else moved / card.bandwidth
    update = _UPDATE_TRAFFIC * shape.parameters / sharded_over / card.bandwidth
    if recipe.optimizer.kind == "muon":
        update += _newton_schulz_flops(shape) / (sharded_over if sharded_over > 1 else gpus) / used
    sent = collectives(recipe, gpus, sharded_over, passes, gathered=cluster.gathered)
    durations = [(part, _seconds(part, recipe.model.layers, cluster, sharded_over)) for part in sent]
    hidden, open_ends = (sum(time for part, time in durations if part.hidden is kind) for kind in (True, False))
    launched = passes * (shape.layers * _LAUNCH_BLOCK + _LAUNCH_PASS)
    feed = tokens / _FEED
    hides = max(products + in_passes, launched)
    parts = {
        "compute": products + in_passes + update,
        "launches": launched + _LAUNCH_STEP,
        "collectives": hidden + open_ends,
        "feed": feed,
    }
    return StepTime(
        sequences=sequences,
        passes=passes,
        seconds=max(max(hides, hidden) + open_ends + update + _LAUNCH_STEP, feed),
        products=products,
        memory=in_passes + update,
        launches=parts["launches"],
        collectives=parts["collectives"],
        exposed=open_ends + max(0.0, hidden - hides),
        feed=feed,
        bound_by=max(parts, key=lambda name: parts[name]),
    )


def _block_flops(shape: ModelShape) -> int:
    """FLOPs a token of the forward pass of all blocks, which activation checkpointing runs twice."""
    return 2 * shape.block_matrices + 2 * shape.layers * shape.attention_width * shape.context


def _bytes_per_token(shape: ModelShape, forwards: int) -> int:
    """Memory traffic besides products; a backward pass moves as much as two forward passes."""
    width, turned, inner = _BLOCK_TRAFFIC
    queries_and_keys = shape.attention_width + shape.kv_heads * shape.head_size
    block = 2 * (width * shape.width + turned * queries_and_keys + inner * shape.ffn)
    return forwards * shape.layers * block + _LOSS_TRAFFIC * shape.vocab_size


def _newton_schulz_flops(shape: ModelShape) -> int:
    """FLOPs of Muon's iteration on all matrices: of A x B with A at most B, three products in each of its steps."""
    kv, queries = shape.kv_heads * shape.head_size, shape.attention_width
    sizes = [(queries, shape.width)] * 2 + [(kv, shape.width)] * 2 + [(shape.width, shape.ffn)] * 3
    pairs = [sorted(size) for size in sizes]
    return shape.layers * _NEWTON_SCHULZ_STEPS * sum(4 * a * a * b + 2 * a**3 for a, b in pairs)


def _seconds(part: Collective, layers: int, cluster: Cluster, sharded_over: int) -> float:
    """Duration of a part of a step's collectives: a ring of the group's ranks, or of the replicas of one rank."""
    card, gpus, per_node = cluster.card, cluster.gpus, cluster.per_node
    ranks = gpus // sharded_over if part.replicas else sharded_over
    together = max(1, per_node // sharded_over) if part.replicas else min(per_node, sharded_over)
    together = min(together, ranks)
    nodes = -(-ranks // together)
    speed = card.link if nodes == 1 else min(card.link, card.network * together)
    rounds = 2 if part.kind == "all_reduce" else 1
    latency = _BASE_LATENCY + rounds * ((ranks - nodes) * card.hop + (nodes - 1) * _NETWORK_HOP)
    calls = layers if part.hidden else 1
    return part.times * (rounds * part.bytes * (ranks - 1) / ranks / (speed * _BUS) + calls * latency)
