"""Which model a budget gives: a row for each shape, with the tokens that it is trained on in the time."""

from __future__ import annotations

import math
from bisect import insort
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from tinyllama.design import rules
from tinyllama.design.machines import MeasuredMachine
from tinyllama.design.shapes import candidates
from tinyllama.errors import PlanError
from tinyllama.plan.epochs import effective_epochs

if TYPE_CHECKING:
    from tinyllama.design.machines import Machine
    from tinyllama.design.shapes import ShapeFamily
    from tinyllama.files import Json
    from tinyllama.recipe import ModelShape

VOCABULARIES = (4096, 8192, 16384, 32000)
"""Numbers of ids to choose from. Fewer than the first cost small models many bits (docs/lab-notes.md), and the last is
Llama 2's."""
CONTEXTS = (256, 512, 1024, 2048)
"""Tokens of a sequence to choose from; the last is TinyLlama's."""
_LEAST_SEQUENCES = 16
"""In a batch, so that it does not hang on few documents."""
_EVEN = 8
"""Sequences of a batch are a multiple of it, which passes can divide."""
_ASSUMED = 0.3
"""Of the measured peak, the speed of a shape of this machine before any is measured."""
_MOST_MEASURED = 4
_FAR = 20
"""Times fewer or more parameters or tokens than in a fit, beyond which it says nothing."""
_ROUNDS = 5
"""In which batch and speed of a shape agree: on many GPUs, small models are faster in larger batches."""


@dataclass(frozen=True)
class Budget:
    """What a model may take, and what of it is fixed."""

    seconds: float | None = None
    """Of training, of all models of a family."""
    tokens: int | None = None
    """Of one model, from its first step to its last, in place of `seconds`."""
    line: float = 1.0
    """Tokens of one model, as a part of those that all models of the family are trained on."""
    most_tokens: float = math.inf
    """Of one model: what the text gives in the epochs that are allowed."""
    unique_tokens: float = math.inf
    """Of the text, read once."""
    over_training: float = 1.0
    """Tokens per parameter, as a multiple of the compute-optimal number."""
    family: str | None = None
    """Of shapes; None for the usual ones."""
    vocab_size: int | None = None
    """Number of ids; None for what suits each shape."""
    context: int | None = None
    """Tokens of a sequence; None for what suits each batch."""
    fit: rules.LossFit = rules.CHINCHILLA
    """That gives the expected losses."""
    is_optimal_by_fit: bool = False
    """Whether the compute-optimal number of tokens is the fit's, and not 20 per parameter."""

    @property
    def rule(self) -> str:
        """What says how many tokens are compute-optimal."""
        return self.fit.name if self.is_optimal_by_fit else f"{rules.TOKENS_PER_PARAMETER:g} tokens per parameter"

    def wanted(self, parameters: int) -> float:
        """Tokens that a model of `parameters` parameters should be trained on."""
        if self.is_optimal_by_fit:
            return self.over_training * self.fit.optimal_tokens(parameters)
        return rules.optimal_tokens(parameters, self.over_training)


@dataclass(frozen=True)
class Size:
    """A shape, and its training within a budget."""

    family: str
    shape: ModelShape
    tokens: int
    """Of one model."""
    sequences: int
    """Of a batch."""
    tokens_per_second: float | None
    """None if it does not fit in memory."""
    is_measured: bool
    """Whether the speed was measured for this very shape."""
    line: float
    fit: rules.LossFit
    """That gives the expected loss."""
    rule: str
    """What says how many tokens are compute-optimal."""
    unique_tokens: float = math.inf
    """Of the text, read once."""
    is_recommended: bool = False

    @property
    def parameters(self) -> int:
        """All weights, embeddings included."""
        return self.shape.parameters

    @property
    def tokens_per_parameter(self) -> float:
        """Tokens that a weight is trained on."""
        return self.tokens / self.parameters

    @property
    def seconds(self) -> float | None:
        """Of training all models of the family; None if it does not fit in memory."""
        return None if self.tokens_per_second is None else self.tokens / self.line / self.tokens_per_second

    @property
    def flops(self) -> float:
        """Training FLOPs of one model without embeddings, as DeepSeek LLM counts them."""
        return self.tokens * self.shape.flops_without_embeddings

    @property
    def expected_loss(self) -> float:
        """By the fit, in nats a token of its text and tokenizer."""
        return self.fit.loss(self.parameters, self.effective_tokens)

    @property
    def effective_tokens(self) -> float:
        """Tokens of new text that are worth as much as the tokens of a text that is read several times."""
        if self.tokens <= self.unique_tokens:
            return self.tokens
        return self.unique_tokens * effective_epochs(self.tokens / self.unique_tokens)

    @property
    def is_fitted(self) -> bool:
        """Whether that fit covers such models and trainings."""
        return self.fit.covers(self.parameters, self.tokens)

    @property
    def is_near_fitted(self) -> bool:
        """Whether the fit says something about such models and trainings at all."""
        return self.fit.covers(self.parameters, self.tokens, _FAR)

    def as_dict(self) -> dict[str, Json]:
        """Plain data for JSON."""
        fields = {key: value for key, value in asdict(self).items() if key not in {"shape", "fit", "unique_tokens"}}
        fields |= {"law": self.fit.name}
        names = ("parameters", "tokens_per_parameter", "seconds", "flops", "effective_tokens", "is_fitted")
        derived = {name: getattr(self, name) for name in names}
        of_tokens: dict[str, Json] = {"expected_loss": None, "peak_learning_rate": None}
        if self.tokens:  # otherwise it does not fit in memory
            rate = rules.peak_learning_rate(self.flops)
            of_tokens = {"expected_loss": self.expected_loss, "peak_learning_rate": rate}
        return {"shape": self.shape.model_dump(exclude_none=True, mode="json")} | fields | derived | of_tokens


def usual_vocabulary(family: ShapeFamily, width: int) -> int:
    """Number of ids for a shape: the nearest of `VOCABULARIES` to what Tao et al. 2024 fitted."""
    blocks = family.shape(width, VOCABULARIES[0], CONTEXTS[0]).block_matrices
    return _nearest(VOCABULARIES, rules.optimal_vocabulary(blocks, width))


def sizes(machine: Machine, budget: Budget) -> list[Size]:
    """The shapes that a machine can train within a budget, from the smallest; one of them is recommended.

    That is the one whose tokens are nearest to those that the budget wants for its size; by the fit alone, only if the
    fit says something about it. Of a measured machine, only some shapes near it are measured; the speed of the others
    follows from the FLOPs of their neighbors.

    Args:
        machine: what trains.
        budget: time or tokens, and what is fixed.

    Raises:
        PlanError: no shape fits in memory.
    """
    speeds = _Speeds(machine)
    found = _sizes(speeds, budget)
    if budget.is_optimal_by_fit and not recommended(found).is_near_fitted:
        return _sizes(speeds, replace(budget, is_optimal_by_fit=False))
    return found


def _sizes(speeds: _Speeds, budget: Budget) -> list[Size]:
    shapes = candidates(budget.family)
    found = [_size(item, speeds, budget) for item in shapes]
    for _ in range(_MOST_MEASURED):
        index = _best(found, budget)
        if found[index].is_measured:
            break
        found[index] = _size(shapes[index], speeds, budget, exact=True)
        pairs = zip(found, shapes, strict=True)
        found = [each if each.is_measured else _size(item, speeds, budget) for each, item in pairs]
    index = _best(found, budget)
    return [replace(each, is_recommended=number == index) for number, each in enumerate(found)]


def recommended(found: list[Size]) -> Size:
    """The one that is recommended."""
    return next(size for size in found if size.is_recommended)


def _best(found: list[Size], budget: Budget) -> int:
    fitting = [index for index, size in enumerate(found) if size.tokens_per_second is not None and size.tokens > 0]
    if not fitting:
        raise PlanError("no shape fits in memory; name more GPUs (--gpus) or a larger one (--hardware)")
    return min(fitting, key=lambda index: abs(math.log(found[index].tokens / budget.wanted(found[index].parameters))))


class _Speeds:
    """Tokens per second of shapes; of a measured machine, from its FLOP/s for shapes of similar size."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._known: list[tuple[int, float]] = []
        """FLOPs a token of measured shapes and FLOP/s, ascending."""

    def __call__(self, shape: ModelShape, sequences: int, *, exact: bool) -> tuple[float | None, bool]:
        """The speed, and whether it is that of this shape itself."""
        machine = self._machine
        if not isinstance(machine, MeasuredMachine):
            return machine.tokens_per_second(shape, sequences), True
        if not machine.fits(shape):
            return None, True
        if exact:
            speed = machine.tokens_per_second(shape, sequences)
            if speed is not None:
                insort(self._known, (shape.flops_per_token, speed * shape.flops_per_token))
            return speed, True
        return self._interpolated(shape.flops_per_token) / shape.flops_per_token, False

    def _interpolated(self, flops: int) -> float:
        if not self._known:
            return _ASSUMED * self._machine.flops
        below = [pair for pair in self._known if pair[0] <= flops]
        above = [pair for pair in self._known if pair[0] >= flops]
        if not below or not above or below[-1][0] == above[0][0]:
            return (below[-1] if below else above[0])[1]
        (low, slow), (high, fast) = below[-1], above[0]
        part = math.log(flops / low) / math.log(high / low)
        return slow + part * (fast - slow)


def _size(item: tuple[ShapeFamily, int], speeds: _Speeds, budget: Budget, *, exact: bool = False) -> Size:
    """A shape's training: its batch depends on its tokens, and in turn its speed and tokens on the batch."""
    family, width = item
    ids = budget.vocab_size or usual_vocabulary(family, width)
    sequences, length = _LEAST_SEQUENCES, budget.context or CONTEXTS[0]
    tokens = float(budget.tokens or 0)
    for final in [False] * _ROUNDS + [True]:
        shape = family.shape(width, ids, length)
        speed, is_measured = speeds(shape, sequences, exact=exact and final)
        if budget.tokens is None:
            tokens = (budget.seconds or 0) * (speed or 0) * budget.line
        tokens = min(tokens, budget.most_tokens)
        if not final and tokens:
            batch = rules.batch_tokens(tokens * shape.flops_without_embeddings)
            fitting = [each for each in CONTEXTS if each * _LEAST_SEQUENCES <= batch]
            length = budget.context or max(fitting, default=CONTEXTS[0])
            sequences = max(_EVEN, _EVEN * round(batch / length / _EVEN))
    fitted = budget.line, budget.fit, budget.rule, budget.unique_tokens
    return Size(family.name, shape, int(tokens), sequences, speed, is_measured, *fitted)


def _nearest(values: tuple[int, ...], wanted: float) -> int:
    return min(values, key=lambda value: abs(math.log(value / wanted)))
