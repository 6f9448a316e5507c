"""What a training of a shape takes on a machine: this one, measured, or GPUs by the planner's model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tinyllama.design.rules import OPTIMIZER
from tinyllama.plan.cards import find_gpu, full_name
from tinyllama.plan.hardware import memory_per_gpu, predict_speed
from tinyllama.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from tinyllama.recipe import ModelShape

HERE = "here"
"""The name of this machine, beside those of GPUs."""
COMPILED_FROM = 0.5
"""Hours of training from which compiling, which takes about a minute on CPUs, pays."""
_TOKENS_FROM = 50_000_000
"""The same in tokens where no hours are known: about those of the smallest models on two cores."""


def compiling_pays(hours: float | None, tokens: int | None) -> bool:
    """Whether a training is long enough to compile its blocks."""
    if hours is not None:
        return hours >= COMPILED_FROM
    return tokens is None or tokens >= _TOKENS_FROM


class Machine(Protocol):
    """Something that trains."""

    name: str
    flops: float
    """FLOP/s of all its processors at best."""
    assumed_of: str | None
    """The other card by whose published speeds it is predicted, for lack of its own; None if there is none."""

    def tokens_per_second(self, shape: ModelShape, sequences: int) -> float | None:
        """Speed of training in steps of `sequences` sequences; None if it does not fit in memory."""


@dataclass
class PredictedMachine:
    """GPUs by their data sheets and published speeds."""

    card: str
    gpus: int = 1
    nodes: int | None = None

    def __post_init__(self) -> None:
        """Find the card.

        Raises:
            PlanError: no such card.
        """
        self.card = full_name(self.card)
        self.name = f"{self.gpus} x {self.card}, predicted"
        gpu = find_gpu(self.card)
        self.flops, self.assumed_of = self.gpus * gpu.flops, gpu.utilization.assumed_of

    def tokens_per_second(self, shape: ModelShape, sequences: int) -> float | None:
        """Speed of training in steps of `sequences` sequences; None if it does not fit in memory."""
        return predict_speed(trial_recipe(shape), self.card, self.gpus, self.nodes, sequences)


@dataclass
class MeasuredMachine:
    """This machine: steps of made-up rows are timed, each shape once."""

    name: str
    flops: float
    memory: int | None
    """Bytes that its device has; None if unknown."""
    measure: Callable[[Recipe, int], float]
    """Tokens per second of a recipe's model in steps of `sequences` sequences."""
    compiles: bool = True
    """Whether blocks are compiled, which pays from `COMPILED_FROM` on."""
    cache: dict[tuple[str, int], float] = field(default_factory=dict)
    assumed_of: str | None = None
    """Always None: what is measured is not predicted."""

    def fits(self, shape: ModelShape) -> bool:
        """Whether a pass of one sequence fits in memory."""
        return self.memory is None or memory_per_gpu(trial_recipe(shape), 1, self.memory, 1).total <= self.memory

    def tokens_per_second(self, shape: ModelShape, sequences: int) -> float | None:
        """Speed of training in steps of `sequences` sequences; None if it does not fit in memory."""
        if not self.fits(shape):
            return None
        key = shape.model_dump_json(), sequences
        if key not in self.cache:
            self.cache[key] = self.measure(trial_recipe(shape, compiles=self.compiles), sequences)
        return self.cache[key]


def trial_recipe(shape: ModelShape, *, compiles: bool = True) -> Recipe:
    """A recipe of a shape and nothing else of interest, to predict or measure its speed."""
    return Recipe.model_validate({
        "name": "trial",
        "description": "",
        "license": "",
        "precision": "auto",
        "model": shape,
        "tokenizer": {"file": "none"},
        "corpora": {
            "text": {"size": 1, "license": "", "held_out": {"share": "1%"}, "sources": [{"builtin": "arithmetic"}]}
        },
        "optimizer": {"kind": OPTIMIZER, "learning_rate": {"schedule": "constant", "peak": 1e-3, "warmup": 0}},
        "base": {"text": "100%"},
        "stages": [
            {"name": "base", "until": shape.context, "batch": shape.context},
            {"name": "end", "until": 2 * shape.context, "batch": shape.context, "fork": True},
        ],
        "variants": {"trial": {"text": "100%"}},
        "evaluation": {"every": 1},
        "hardware": {"compile": compiles},
        "checkpoints": {"every": 1},
    })  # fmt: skip
