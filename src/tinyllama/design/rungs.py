"""A ladder: recipes of small models whose losses predict that of a recipe, each a trunk with branches that decay.

Every rung has the proportions, corpora and shares of the recipe. It is trained on fewer tokens at a constant learning
rate, and from this trunk branches decay at several token counts, each as good as a training of that length with a
cosine (Hägele et al. 2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from tinyllama.design.rules import BATCH_EXPONENT, LEARNING_RATE_EXPONENT
from tinyllama.errors import PlanError
from tinyllama.layout import BASE
from tinyllama.plan import compile_plan
from tinyllama.recipe import Recipe
from tinyllama.recipe.quantities import format_share

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import JsonValue

    from tinyllama.recipe import ModelShape
    from tinyllama.recipe.training import Shares

FEWEST_RUNGS, RUNGS, MOST_RUNGS = 3, 4, 12
COMPUTE = 0.1
"""Of the ladder, as a part of the recipe's model's."""
_NARROWEST, _WIDEST = 1 / 4, 0.63
"""Widths as a part of the recipe's: about a 64th and a quarter of the weights of its blocks."""
_LENGTHS, _SHORTEST = 4, 1 / 4
"""Branches of a rung, and the tokens of the shortest one as a part of the longest's."""
_DECAY_FROM = 0.8
"""Of a branch's tokens: the last fifth decays, unless the recipe's shares change before (Hägele et al. 2024)."""
_FEWEST_STEPS = 8
"""Of the shortest branch."""
_DECAYED = 0.5
"""Of the peak: a model whose learning rate ends above it has not decayed."""


class Change(NamedTuple):
    """A change of the shares."""

    at: float
    """Where it begins, as a part of the tokens."""
    ramp: float
    """Over which part of them it goes."""
    shares: Shares


@dataclass(frozen=True)
class Goal:
    """The model whose loss a ladder predicts."""

    recipe: Recipe
    model: str
    tokens: int
    """From the first step to the last."""
    fork: float
    """Part of the tokens after which the branches of a rung decay."""
    base: Shares
    """At the first step."""
    changes: Sequence[Change]
    """Of the shares, later on."""
    minimum: float
    """Learning rate at the end as a part of the peak."""
    sequences: int
    """Of the batch that most tokens are trained with."""

    @property
    def shape(self) -> ModelShape:
        """The model's shape."""
        return self.recipe.model

    @property
    def shares(self) -> Shares:
        """At the end; the loss that is predicted is the mean over the corpora by them."""
        return [self.base, *(change.shares for change in self.changes)][-1]

    @property
    def flops(self) -> float:
        """Of training the model."""
        return float(self.tokens) * self.shape.flops_per_token


@dataclass(frozen=True)
class Rung:
    """A small model, and the token counts that it is trained to."""

    name: str
    recipe: Recipe
    """A family: the trunk is its base, and a branch has the name of each length."""
    ends: Mapping[str, int]
    """Branch → tokens from the trunk's first step to the branch's last, ascending."""

    @property
    def shape(self) -> ModelShape:
        """The model's shape."""
        return self.recipe.model

    @property
    def trained_tokens(self) -> int:
        """Of the trunk and all branches together."""
        return sum(map(self.recipe.own_tokens, self.recipe.models))

    @property
    def flops(self) -> float:
        """Of the trunk and all branches together."""
        return float(self.trained_tokens) * self.shape.flops_per_token

    @property
    def steps(self) -> int:
        """Of the longest branch, from the trunk's first one."""
        return compile_plan(self.recipe, list(self.ends)[-1]).steps

    @property
    def sequences(self) -> int:
        """Of a batch."""
        return self.recipe.batch_sequences(self.recipe.stages[0])


def goal_of(recipe: Recipe, model: str) -> Goal:
    """The model that is predicted, and what its rungs imitate.

    Args:
        recipe: of the family.
        model: one of `recipe.models`.

    Raises:
        PlanError: small models cannot imitate its training.
    """
    line, plan = recipe.line(model), compile_plan(recipe, model)
    stages = line.stages[: line.fork_index] if model == BASE else line.stages
    if recipe.start is not None:
        raise PlanError("start: a ladder is of models that begin with random weights; remove the key")
    if any(stage.shape(recipe.model) != recipe.model for stage in stages):
        raise PlanError(
            f"the context or the positions of {model} change in a stage, which a ladder does not imitate; name a model "
            "without such a stage (--variant)"
        )
    rate = recipe.optimizer.learning_rate.peak
    if (last := float(plan.lr[-1])) > _DECAYED * rate:
        raise PlanError(
            f"the learning rate of {model} ends at {last:g}, not far below its peak; a ladder predicts models whose "
            "learning rate decays, so name one of those (--variant)"
        )
    begin, *changes = _changes(line, model)
    if model != BASE and len(line.own_shares(BASE)) > 1:
        raise PlanError(
            f"the shares of base change before {model} forks, which branches of one trunk cannot imitate; name a model "
            "without such a change (--variant)"
        )
    pairs = pairwise([begin, *changes])
    changes = [change for before, change in pairs if change.shares != before.shares]
    sequences: dict[int, int] = {}
    for stage, (_, first, end) in zip(stages, plan.stage_steps(), strict=True):
        count = recipe.batch_sequences(stage)
        sequences[count] = sequences.get(count, 0) + (end - first) * count
    return Goal(
        recipe=recipe,
        model=model,
        tokens=plan.tokens_after(plan.steps),
        fork=min([_DECAY_FROM, *(change.at for change in changes)]),
        base=begin.shares,
        changes=tuple(changes),
        minimum=last / rate,
        sequences=max(sequences, key=lambda count: sequences[count]),
    )


def _changes(line: Recipe, model: str) -> list[Change]:
    """Where the shares of a line are set; the first one is at its first step."""
    starts = [0, *line.end_tokens]
    last = starts[line.fork_index if model == BASE else -1]
    return [
        Change(starts[index] / last, line.stages[index].ramp / last, shares)
        for index, shares in line.path_shares(model)
    ]


def ladder(goal: Goal, count: int = RUNGS, compute: float = COMPUTE) -> list[Rung]:
    """The rungs, from the smallest; all of one length, so that size and length vary independently.

    Args:
        goal: the model that they predict.
        count: number of rungs.
        compute: of all rungs together, as a part of the model's.

    Raises:
        PlanError: the model is too small for this number of rungs, or they would be trained for too few steps.
    """
    shapes = narrower(goal.shape, count)
    lengths = [_SHORTEST ** (index / (_LENGTHS - 1)) for index in reversed(range(_LENGTHS))]
    trained = goal.fork + (1 - goal.fork) * sum(lengths)  # by a rung, for each token of its longest branch
    whole = compute * goal.flops / (trained * sum(shape.flops_per_token for shape in shapes))
    tokens = min(float(goal.tokens), whole)
    targets = [length * tokens for length in lengths]
    return [small_model(goal, f"rung-{index}", shape, targets) for index, shape in enumerate(shapes, 1)]


def narrower(shape: ModelShape, count: int) -> list[ModelShape]:
    """Shapes with the proportions of one, evenly spaced in the logarithm of the width, from the narrowest.

    Raises:
        PlanError: there are fewer.
    """
    widths = [_width(shape, _NARROWEST * (_WIDEST / _NARROWEST) ** (index / (count - 1))) for index in range(count)]
    found = [_shape(shape, width) for width in widths]
    if len(set(widths)) < count or found[-1].parameters >= shape.parameters:
        raise PlanError(
            f"a model of width {shape.width} has no {count} narrower ones for a ladder; use fewer (--rungs), or a "
            "wider model"
        )
    return found


def narrowest(shape: ModelShape) -> ModelShape:
    """The shape of a ladder's smallest rung.

    Raises:
        PlanError: the model is as narrow itself.
    """
    found = _shape(shape, _width(shape, _NARROWEST))
    if found.width >= shape.width:
        raise PlanError(f"a model of width {shape.width} has no narrower one to try peaks on; use a wider model")
    return found


def _width(shape: ModelShape, part: float) -> int:
    """About a part of a shape's width, in units that suit it."""
    unit = next((unit for unit in (64, 32, 16) if shape.width >= 16 * unit), 8)
    return unit * max(1, round(part * shape.width / unit))


def _shape(shape: ModelShape, width: int) -> ModelShape:
    """A narrower model of the same proportions, in whole heads of an even size."""
    heads = min(
        (count for count in _divisors(width) if width // count % 2 == 0),
        key=lambda count: abs(math.log(width / count / shape.head_size)),
    )
    shared = shape.heads / shape.kv_heads
    multiple = 32 if width >= 256 else 8  # as matrix units want it
    return shape.model_copy(
        update={
            "layers": max(1, round(shape.layers * width / shape.width)),
            "width": width,
            "ffn": multiple * max(1, round(shape.ffn / shape.width * width / multiple)),
            "heads": heads,
            "kv_heads": min(_divisors(heads), key=lambda count: abs(math.log(heads / count / shared))),
            "head_dim": None,
        }
    )


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def small_model(
    goal: Goal, name: str, shape: ModelShape, targets: Sequence[float], *, keeps_batch: bool = False
) -> Rung:
    """A small model's recipe: learning rate and batch follow its compute, from those of the recipe.

    Args:
        goal: the model that it imitates.
        name: of the small one.
        shape: of the small one.
        targets: tokens of its branches, about, ascending.
        keeps_batch: have the recipe's batch, unless that leaves too few steps.

    Raises:
        PlanError: it would be trained for too few steps.
    """
    tokens = targets[-1]
    part = tokens * shape.flops_per_token / goal.flops
    most = max(1, int(targets[0] / shape.context / _FEWEST_STEPS))
    wanted = goal.sequences if keeps_batch else round(goal.sequences * part**BATCH_EXPONENT)
    sequences = max(1, min(most, wanted))
    batch = sequences * shape.context
    ends = [round(target / batch) * batch for target in targets]
    forks = [math.floor(goal.fork * end / batch) * batch for end in ends]
    if ends[0] < _FEWEST_STEPS * batch or forks[0] < batch:
        raise PlanError(
            f"{name} would be trained for {ends[0] // batch} steps of {shape.context} tokens up to its first branch, "
            f"at least {_FEWEST_STEPS} are needed; give more compute (--compute of ladder, --length of tune)"
        )
    rate = goal.recipe.optimizer.learning_rate
    is_mup = goal.recipe.parametrization == "mup"  # which transfers the peak from width to width
    peak = float(f"{rate.peak * (tokens / goal.tokens if is_mup else part) ** LEARNING_RATE_EXPONENT:.4g}")
    trunk = {fork: f"trunk-{index}" for index, fork in enumerate(dict.fromkeys(forks), 1)}
    branches: dict[str, JsonValue] = {
        f"length-{index}": _branch(goal, f"length-{index}", (fork, end, batch))
        | {"from": f"{BASE}@{trunk[fork]}", "decay": {"shape": "1-sqrt", "minimum": peak * goal.minimum}}
        for index, (fork, end) in enumerate(zip(forks, ends, strict=True), 1)
    }
    written = goal.recipe.model_dump(mode="json", by_alias=True)
    written["optimizer"]["learning_rate"] = {
        "schedule": "constant", "peak": peak, "warmup": min(round(rate.warmup * tokens / goal.tokens), forks[0] // 2),
    }  # fmt: skip
    written |= {
        "name": f"{goal.recipe.name}-{name}",
        "description": f"{name}, a small model of {goal.recipe.name}",
        "model": shape.model_dump(mode="json"),
        "average": None,
        "base": _written(goal.base),
        "stages": [{"name": stage, "until": until, "batch": batch} for until, stage in trunk.items()],
        "variants": {},
        "branches": branches,
    }
    written["evaluation"] |= {
        "every": max(batch, ends[-1] // 4), "tasks": [], "tasks_every": None, "prompts": [], "samples_every": None,
    }  # fmt: skip
    written["checkpoints"] = {"every": max(batch, ends[-1] // 8), "keep": 1}
    written["logging"] = {"tensorboard": False}
    recipe = Recipe.model_validate(written)
    return Rung(name, recipe, {branch: recipe.line(branch).end_tokens[-1] for branch in branches})


def _branch(goal: Goal, name: str, steps: tuple[int, int, int]) -> dict[str, JsonValue]:
    """The stages and shares of a branch; `steps` are the tokens at its fork, at its end and in a batch."""
    fork, end, batch = steps
    places = {math.floor(change.at * end / batch) * batch: change for change in goal.changes}
    changes = {max(fork, place): change for place, change in places.items() if place < end}
    begins = list(dict.fromkeys([fork, *changes]))
    stages: list[JsonValue] = []
    branch: dict[str, JsonValue] = {"stages": stages}
    for index, (begin, until) in enumerate(pairwise([*begins, end]), 1):
        stage: dict[str, JsonValue] = {"name": f"decay-{index}", "until": until, "batch": batch}
        stages.append(stage)
        if begin in changes:
            ramp, shares = min(round(changes[begin].ramp * end), until - begin), _written(changes[begin].shares)
            if index == 1:
                branch |= {"shares": shares, "ramp": ramp}
            else:
                stage |= {"shares": {name: shares}, "ramp": ramp}
    return branch


def _written(shares: Shares) -> dict[str, JsonValue]:
    return {corpus: format_share(share) for corpus, share in shares.items()}
