"""What a plan costs on a cluster: memory, speed, days, GPU-hours and money, from a few stated assumptions."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from tinyllama.errors import PlanError
from tinyllama.layout import BASE
from tinyllama.plan.cards import find_gpu, full_name
from tinyllama.plan.step_time import Cluster, flops_formulas, predict_step
from tinyllama.plan.table import compile_plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyllama.files import Json
    from tinyllama.plan.cards import Utilization
    from tinyllama.plan.step_time import StepTime
    from tinyllama.plan.table import Plan
    from tinyllama.recipe import Recipe, Stage

_GATHERED = 0.1
"""Of a device's memory, the most that sharded weights may take to stay gathered for a whole step."""


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
    nodes: int
    sharded_over: int
    micro_batch: int
    memory: Memory
    """In the stage that needs most."""
    memory_limit: int
    """Bytes of the card that training can use."""
    step: StepTime
    """Of the batch and context that see most tokens of the first plan."""
    assumed_mfu: float | None
    """Of computation, in place of the card's utilization; None for that."""
    utilization: Utilization
    tokens_per_second_per_gpu: float
    """In that step."""
    speed_range: tuple[float, float]
    """The same at the least and at the most utilization."""
    flops_per_token: int
    mfu: float
    """Of that speed, by the first of the formulas."""
    mfu_by_formula: dict[str, float]
    seconds_by_shard: dict[str, float | None]
    """Of the same step by `hardware.shard`; None where it does not fit."""
    spans: list[Span]
    """The base, then each variant from the fork on."""

    @property
    def fits(self) -> bool:
        """Whether the memory suffices."""
        return self.memory.total <= self.memory_limit

    def as_dict(self) -> dict[str, Json]:
        """Plain data for JSON."""
        return asdict(self) | {"fits": self.fits, "memory_total": self.memory.total}


class _Training:
    """A recipe on a cluster."""

    def __init__(self, recipe: Recipe, cluster: Cluster) -> None:
        self.recipe, self.sharded_over = recipe, recipe.hardware.sharded_over(cluster.gpus, cluster.per_node)
        self.cluster = replace(cluster, gathered=fits_gathered(recipe, self.sharded_over, cluster.card.usable))

    def sharded(self, shard: str) -> _Training:
        """The same with another `hardware.shard`."""
        hardware = self.recipe.hardware.model_copy(update={"shard": shard})
        return _Training(self.recipe.model_copy(update={"hardware": hardware}), self.cluster)

    def in_stage(self, stage: Stage) -> _Training:
        """The same with the shape that the model has in a stage."""
        recipe = self.recipe.in_stage(stage)
        return self if recipe is self.recipe else _Training(recipe, self.cluster)

    def fits(self, sequences: int) -> bool:
        """Whether a step of `sequences` sequences fits."""
        return self.memory(self.micro_batch(sequences)).total <= self.cluster.card.usable

    def memory(self, micro_batch: int) -> Memory:
        return memory_per_gpu(self.recipe, self.sharded_over, self.cluster.card.usable, micro_batch)

    def micro_batch(self, sequences: int) -> int:
        """The recipe's, or as training chooses it from memory."""
        stated = self.recipe.hardware.micro_batch
        if isinstance(stated, int):
            return stated
        rows, limit = -(-sequences // self.cluster.gpus), self.cluster.card.usable
        return most_even(rows, max(size for size in even_counts(rows) if size == 1 or self.memory(size).total <= limit))

    def step(self, sequences: int) -> StepTime:
        return predict_step(self.recipe, self.cluster, sequences, self.micro_batch(sequences))

    def speed(self, sequences: int, utilization: float | None = None) -> float:
        """Tokens per second and GPU."""
        cluster = replace(self.cluster, utilization=utilization or self.cluster.utilization)
        step = predict_step(self.recipe, cluster, sequences, self.micro_batch(sequences))
        return sequences * self.recipe.model.context / step.seconds / cluster.gpus


def predict(  # noqa: PLR0913  # one assumption each
    recipe: Recipe,
    plans: Sequence[Plan],
    card_name: str,
    gpus: int,
    *,
    nodes: int | None = None,
    mfu: float | None = None,
    price: float | None,
) -> Prediction:
    """Predict what the family needs; every plan holds the shared base, which is trained once.

    Args:
        recipe: the family.
        plans: of the variants or of the base alone, compiled from it.
        card_name: of GPUS.
        gpus: how many.
        nodes: that hold them; None for nodes as large as the card's usually are.
        mfu: of computation, by the first of the formulas, in place of the card's utilization.
        price: of a GPU-hour, in whatever currency.

    Raises:
        PlanError: no such card, or the nodes do not divide the GPUs.
        RecipeError: `hardware.shard` does not divide the GPUs.
    """
    card = find_gpu(card_name)
    used = card.utilization.at(recipe.model.width)
    training = _training(recipe, card_name, gpus, nodes, mfu)
    nodes = nodes or -(-gpus // card.per_node)

    def span(name: str, plan: Plan) -> Span:
        first = 0 if name == BASE else plan.fork_step
        spans = zip(recipe.line(plan.variant).stages, plan.stage_steps(), strict=False)
        own = [(stage, begin, end) for stage, (_, begin, end) in spans if begin >= first]
        seconds = [
            (end - begin) * training.in_stage(stage).step(recipe.batch_sequences(stage)).seconds
            for stage, begin, end in own
        ]
        hours = sum(seconds) * gpus / 3600
        tokens = plan.tokens_after(plan.steps) - plan.tokens_after(first)
        return Span(name, tokens, hours / gpus / 24, hours, None if price is None else hours * price)

    compiled = {plan.variant or BASE: plan for plan in plans}
    models = dict.fromkeys(name for plan in plans for name in recipe.ancestry(plan.variant or BASE))
    spans = [span(name, compiled.get(name) or compile_plan(recipe, name)) for name in models]
    main = main_stage(recipe, plans[0])
    whole, training, batch = training, training.in_stage(main), recipe.batch_sequences(main)
    stages = [stage for plan in plans for stage in recipe.line(plan.variant).stages[: len(plan.stages)]]
    others = [(whole.in_stage(stage), stage) for stage in stages if stage.shape(recipe.model) != training.recipe.model]
    memories = [other.memory(other.micro_batch(recipe.batch_sequences(stage))) for other, stage in others]
    speed = training.speed(batch)
    by_shard = {shard: training.sharded(shard) for shard in ("node", "all", "none")}
    return Prediction(
        card=full_name(card_name),
        gpus=gpus,
        nodes=nodes,
        sharded_over=training.sharded_over,
        micro_batch=training.micro_batch(batch),
        memory=max([training.memory(training.micro_batch(batch)), *memories], key=lambda memory: memory.total),
        memory_limit=card.usable,
        step=training.step(batch),
        assumed_mfu=mfu,
        utilization=used,
        tokens_per_second_per_gpu=speed,
        speed_range=(training.speed(batch, used.low), training.speed(batch, used.high)),
        flops_per_token=training.recipe.model.flops_per_token,
        mfu=speed * training.recipe.model.flops_per_token / card.flops,
        mfu_by_formula={
            name: speed * value / card.flops for name, value in flops_formulas(training.recipe.model).items()
        },
        seconds_by_shard={
            shard: other.step(batch).seconds if other.fits(batch) else None for shard, other in by_shard.items()
        },
        spans=spans,
    )


def main_stage(recipe: Recipe, plan: Plan) -> Stage:
    """The first stage with the batch and context that see most tokens of a plan."""
    tokens: dict[tuple[int, int], int] = {}
    stages = recipe.line(plan.variant).stages[: len(plan.stages)]
    kinds = [(recipe.batch_sequences(stage), recipe.context(stage)) for stage in stages]
    for kind, (_, first, end) in zip(kinds, plan.stage_steps(), strict=True):
        tokens[kind] = tokens.get(kind, 0) + (end - first) * kind[0] * kind[1]
    return stages[kinds.index(max(tokens, key=lambda kind: tokens[kind]))]


def predict_speed(recipe: Recipe, card_name: str, gpus: int, nodes: int | None, sequences: int) -> float | None:
    """Tokens per second of all GPUs together in steps of `sequences` sequences; None if they do not fit in memory.

    Raises:
        PlanError, RecipeError: see `predict`.
    """
    training = _training(recipe, card_name, gpus, nodes)
    return gpus * training.speed(sequences) if training.fits(sequences) else None


def _training(recipe: Recipe, card_name: str, gpus: int, nodes: int | None, mfu: float | None = None) -> _Training:
    card = find_gpu(card_name)
    if nodes is not None and gpus % nodes:
        raise PlanError(f"{gpus} GPUs are not the same number on each of {nodes} nodes; give a divisor of {gpus}")
    per_node = -(-gpus // (nodes or -(-gpus // card.per_node)))
    utilization = card.utilization.at(recipe.model.width).value
    return _Training(recipe, Cluster(card, gpus, per_node, utilization, mfu=mfu))


def even_counts(rows: int) -> list[int]:
    """Sequences in a pass that divide a rank's rows as evenly as some number of passes can, ascending."""
    return sorted({-(-rows // passes) for passes in range(1, rows + 1)})


def most_even(rows: int, most: int) -> int:
    """Sequences in a pass, at most `most`, by which each pass has as many: one program is compiled for all.

    Where only less than half of `most` divides the rows, the last pass has fewer.
    """
    counts = [count for count in even_counts(rows) if count <= most]
    even = max(count for count in counts if rows % count == 0)
    return even if 2 * even >= counts[-1] else counts[-1]


def checkpoint_bytes(recipe: Recipe) -> int:
    """Size of one checkpoint: fp32 weights, the optimizer's moments, and the running average of the weights."""
    return 4 * recipe.model.parameters + recipe.optimizer.state_bytes(recipe.model) + recipe.average_bytes


def fits_gathered(recipe: Recipe, sharded_over: int, memory: int) -> bool:
    """Whether weights that are sharded over ranks, each with `memory` bytes, are gathered once in a step.

    Otherwise each block is gathered when it is needed, twice in each pass.
    """
    gathered = (4 if recipe.precision == "fp32" else 2) * recipe.model.parameters
    return sharded_over == 1 or gathered <= _GATHERED * memory


def memory_per_gpu(recipe: Recipe, sharded_over: int, limit: int, micro_batch: int | None = None) -> Memory:
    """Bytes on each GPU when the state is sharded over `sharded_over` ranks, of which each can use `limit`.

    A pass has `micro_batch` sequences, or those of the recipe.

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
    tokens = (micro_batch or recipe.micro_batch) * shape.context
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
