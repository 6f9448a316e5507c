"""What a plan costs on a cluster: memory, speed, days, GPU-hours and money, from a few stated assumptions.

FLOPs a token of training (forward once, backward twice) under the three formulas in use, N weights, E of them in
the input embedding, L layers, width D, context T:

    6(N - E) + 6·L·D·T     what we count: each matrix product, attention only where it is causal
    6(N - E) + 12·L·D·T    attention as if it were not causal
    6N                     weights alone (Kaplan et al. 2020)

Model FLOPs utilization (MFU) is tokens/s times one of these over the peak of the card, so it means nothing without its
formula: TinyLlama's 24,000 tokens/s on an A100 are 52% by the first, 56% (the published figure) by the second, and
51% by the third.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from tinyllama.errors import PlanError
from tinyllama.layout import BASE
from tinyllama.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyllama.files import Json
    from tinyllama.plan.table import Plan
    from tinyllama.recipe import ModelShape, Recipe

DEFAULT_MFU = 0.52
"""By the first formula: that of TinyLlama's published 24,000 tokens/s on an A100-40G."""
RESERVED = 1.5 * 2**30
"""Bytes that the driver, the communication library and fragmentation take of a card."""
_GATHERED = 0.1
"""Of a device's memory, the most that sharded weights may take to stay gathered for a whole step."""
_RECOMPUTED = 4 / 3
"""FLOPs with activation checkpointing over those without: the forward pass runs twice."""


@dataclass(frozen=True)
class Gpu:
    """A GPU by its data sheet."""

    flops: float
    """Dense bf16 FLOP/s with fp32 accumulation."""
    memory_gib: float
    per_node: int
    """Cards in a usual node."""

    @property
    def usable(self) -> int:
        """Bytes that training can use."""
        return int(self.memory_gib * 2**30 - RESERVED)


GPUS = {
    "a100-40g": Gpu(312e12, 40, 4),
    "a100-80g": Gpu(312e12, 80, 8),
    "h100-80g": Gpu(989.4e12, 80, 8),
    "h200-141g": Gpu(989.4e12, 141, 8),
    "l40s-48g": Gpu(362.05e12, 48, 8),
    "rtx4090-24g": Gpu(165.2e12, 24, 4),
}
"""NVIDIA's data sheets: SXM versions, without sparsity."""


@dataclass(frozen=True)
class Memory:
    """Bytes on each GPU; a checkpoint is written from a copy of weights and moments in host memory."""

    weights: int
    """fp32 masters, this rank's part."""
    gradients: int
    """fp32, this rank's part."""
    moments: int
    """The optimizer's, and the running average of the weights, fp32, this rank's part."""
    working: int
    """bf16 weights that are whole at a time: all, or embeddings, head and two blocks; one block's gradients."""
    activations: int
    """Of one micro-batch."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.moments + self.working + self.activations


@dataclass(frozen=True)
class Span:
    """A part of the family: its base, or one variant from the fork on."""

    name: str
    tokens: int
    days: float
    gpu_hours: float
    cost: float | None
    """None without a price."""


@dataclass(frozen=True)
class Prediction:
    """What a family needs on some hardware."""

    card: str
    gpus: int
    sharded_over: int
    micro_batch: int
    memory: Memory
    memory_limit: int
    """Bytes of the card that training can use."""
    mfu: float
    flops_per_token: int
    tokens_per_second_per_gpu: float
    formula: str
    """How the speed was computed, with its numbers."""
    other_formulas: dict[str, float]
    """MFU of the same speed by the other formulas."""
    spans: list[Span]
    """The base, then each variant from the fork on."""

    @property
    def fits(self) -> bool:
        """Whether the memory suffices."""
        return self.memory.total <= self.memory_limit

    def as_dict(self) -> dict[str, Json]:
        """Plain data for JSON."""
        return asdict(self) | {"fits": self.fits, "memory_total": self.memory.total}


def find_gpu(name: str) -> Gpu:
    """A card by name.

    Raises:
        PlanError: it is not in the table.
    """
    if name not in GPUS:
        raise PlanError(f"no GPU is named {name!r}{did_you_mean(name, GPUS)}; known: {', '.join(GPUS)}")
    return GPUS[name]


def predict(  # noqa: PLR0913  # one assumption each
    recipe: Recipe, plans: Sequence[Plan], card_name: str, gpus: int, *, mfu: float = DEFAULT_MFU, price: float | None
) -> Prediction:
    """Predict what the family needs; every plan holds the shared base, which is trained once.

    Args:
        recipe: the family.
        plans: of the variants or of the base alone, compiled from it.
        card_name: of GPUS.
        gpus: how many.
        mfu: assumed MFU, by the first formula of this module.
        price: of a GPU-hour, in whatever currency.

    Raises:
        PlanError: no such card.
    """
    card = find_gpu(card_name)
    sharded_over = recipe.hardware.sharded_over(gpus, min(gpus, card.per_node))
    flops = recipe.model.flops_per_token
    recomputed = _RECOMPUTED if recipe.hardware.activation_checkpointing else 1.0
    speed = mfu * card.flops / (flops * recomputed)

    def span(name: str, tokens: int) -> Span:
        hours = tokens / speed / 3600
        return Span(name, tokens, hours / gpus / 24, hours, None if price is None else hours * price)

    fork = plans[0].tokens_after(plans[0].fork_step)
    spans = [span(BASE, fork - plans[0].tokens_after(0))]
    spans += [span(plan.variant, plan.tokens_after(plan.steps) - fork) for plan in plans if plan.variant is not None]
    return Prediction(
        card=card_name,
        gpus=gpus,
        sharded_over=sharded_over,
        micro_batch=recipe.micro_batch,
        memory=memory_per_gpu(recipe, sharded_over, card.usable),
        memory_limit=card.usable,
        mfu=mfu,
        flops_per_token=flops,
        tokens_per_second_per_gpu=speed,
        formula=(
            f"{speed:,.0f} tokens/s = {mfu:.1%} x {card.flops / 1e12:g}e12 FLOP/s / {flops / 1e9:.3f}e9 FLOPs a token"
            + (" x 3/4 (activation checkpointing)" if recomputed != 1 else "")
        ),
        other_formulas={name: speed * value / card.flops for name, value in flops_formulas(recipe.model).items()},
        spans=spans,
    )


def flops_formulas(shape: ModelShape) -> dict[str, int]:
    """Training FLOPs a token by each formula in use."""
    return {
        "6(N - E) + 6LDT (causal)": shape.flops_per_token,
        "6(N - E) + 12LDT": shape.flops_per_token + 6 * shape.layers * shape.width * shape.context,
        "6N": 6 * shape.parameters,
    }


def checkpoint_bytes(recipe: Recipe) -> int:
    """Size of one checkpoint: fp32 weights, the optimizer's moments, and the running average of the weights."""
    return 4 * recipe.model.parameters + recipe.optimizer.state_bytes(recipe.model) + recipe.average_bytes


def fits_gathered(recipe: Recipe, sharded_over: int, memory: int) -> bool:
    """Whether weights that are sharded over so many ranks, each with so much memory, are gathered once in a step.

    Otherwise each block is gathered when it is needed, twice in each pass.
    """
    gathered = (4 if recipe.precision == "fp32" else 2) * recipe.model.parameters
    return sharded_over == 1 or gathered <= _GATHERED * memory


def memory_per_gpu(recipe: Recipe, sharded_over: int, limit: int) -> Memory:
    """Bytes on each GPU when the state is sharded over so many ranks, of which each can use `limit`.

    Activation checkpointing keeps only the input of each block, and all that one block saves at a time.
    """
    shape = recipe.model
    own = 4 * -(-shape.parameters // sharded_over)
    moments = -(-(recipe.optimizer.state_bytes(shape) + recipe.average_bytes) // sharded_over)
    tables = (1 if shape.tied_embeddings else 2) * shape.vocab_size * shape.width
    block = (shape.parameters - tables) // shape.layers
    # A gathered weight takes 2 bytes; the gradients of the block being reduced 2 in bf16 and 4 as they are summed.
    whole = shape.parameters if fits_gathered(recipe, sharded_over, limit) else tables + 2 * block
    working = 2 * whole + 6 * max(block, tables)
    tokens = recipe.micro_batch * shape.context
    kept = 2 * shape.saved_per_token
    checkpointing = recipe.hardware.activation_checkpointing
    per_token = shape.layers * 2 * shape.width + kept if checkpointing else shape.layers * kept
    return Memory(
        weights=own,
        gradients=own,
        moments=moments,
        working=working,
        activations=tokens * (per_token + 2 * 2 * shape.width),
    )
