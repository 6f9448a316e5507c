"""Branches: models that fork from any other model, at any step."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

from pydantic import AfterValidator, Field, field_validator, model_validator

from tinyllama.layout import BASE
from tinyllama.recipe.quantities import Count, Number, format_count, parse_count
from tinyllama.recipe.section import Section, WrongKey
from tinyllama.recipe.stages import check_shares, check_stages
from tinyllama.recipe.training import Shares, Stage
from tinyllama.text import did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tinyllama.recipe.shape import ModelShape
    from tinyllama.recipe.text import Corpus
    from tinyllama.recipe.training import LearningRate, Optimizer

_ORIGIN = re.compile(r"[^@\s]+(@[^@\s]+)?")


def _origin(text: str) -> str:
    if not _ORIGIN.fullmatch(text):
        raise ValueError(f"{shown(text)} names no fork; write a model, or one at tokens or a stage's end: base@1.2T")
    return text


class Decay(Section):
    """A decay of the learning rate from its value at the fork to a minimum at the end of the branch."""

    shape: Literal["linear", "cosine", "1-sqrt", "exponential"]
    """Shape of the decay, as of a `wsd` schedule that decays from the fork to `until` of the branch's last stage."""
    minimum: Annotated[Number, Field(ge=0)]
    """Learning rate at the end of the branch."""

    @model_validator(mode="after")
    def _is_reached(self) -> Decay:
        if self.shape == "exponential" and not self.minimum:
            raise WrongKey("must be above 0, which an exponential decay never reaches", "minimum")
        return self

    def schedule(self, before: LearningRate, fork: int, end: int) -> LearningRate:
        """The schedule of a branch that forks at `fork` tokens from a constant learning rate."""
        own = {"schedule": "wsd", "minimum": self.minimum, "horizon": end, "decay_from": fork, "decay": self.shape}
        return before.model_copy(update=own | {"points": [], "between": None})


class Branch(Section):
    """A model that forks from another one, and has stages of its own."""

    from_: Annotated[str, AfterValidator(_origin)] = Field(alias="from")
    """The model that it forks from, and where: `base` is its end, `base@1.2T` the first step whose end reaches that
    number of tokens, and `base@warm` the end of its stage `warm`."""
    shares: Shares = Field(default={})
    """Share of each corpus from the fork on; without it, those in force at the fork."""
    ramp: Count = 0
    """Tokens after the fork over which the shares change linearly; only with `shares`."""
    decay: Decay | None = None
    """Decay of the learning rate from the fork to the branch's end; without it, the parent's schedule continues."""
    stages: Annotated[list[Stage], Field(min_length=1, max_length=1000)]
    """Stages from the fork on, in order."""

    @property
    def parent(self) -> str:
        """The model that it forks from."""
        return self.from_.partition("@")[0]

    @property
    def point(self) -> str:
        """Where it forks: a number of tokens, or a stage of its parent; empty for the parent's end."""
        return self.from_.partition("@")[2]

    @field_validator("stages")
    @classmethod
    def _has_one_fork(cls, stages: list[Stage]) -> list[Stage]:
        for index, stage in enumerate(stages):
            if stage.fork:
                raise WrongKey("a branch forks where `from` says; remove the key", index, "fork")
        return stages

    @model_validator(mode="after")
    def _ramp_has_a_change(self) -> Branch:
        if self.ramp and not self.shares:
            raise WrongKey("a ramp needs shares to change to; write shares, or remove the ramp", "ramp")
        return self


class Line(Protocol):
    """What the checks read of a recipe, and of the lines that it makes of its branches."""

    @property
    def model(self) -> ModelShape:
        """The shape of all models."""

    @property
    def corpora(self) -> dict[str, Corpus]:
        """The corpora by name."""

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer, with the line's learning rate."""

    @property
    def stages(self) -> list[Stage]:
        """The stages of the line."""

    @property
    def branches(self) -> dict[str, Branch]:
        """The branches by name."""

    @property
    def start_tokens(self) -> int:
        """Tokens seen before the first step."""

    @property
    def fork_index(self) -> int:
        """Index of the first stage after the line's fork."""

    @property
    def end_tokens(self) -> list[int]:
        """Tokens seen at the end of each stage."""

    def fork_tokens(self, model: str) -> int:
        """Tokens seen where a model forks."""

    def own_shares(self, model: str) -> list[tuple[int, Shares]]:
        """Stage → the shares of a model from there on."""

    def line(self, model: str | None) -> Line:
        """The line of a model."""


def path_to_fork(
    branch: Branch, stages: Sequence[Stage], ends: Sequence[int], changes: Mapping[int, Shares]
) -> list[Stage]:
    """The path to a fork, as stages of a base.

    Args:
        branch: the model that forks.
        stages: the path of its parent.
        ends: tokens seen at the end of each stage, in whole steps.
        changes: stage → shares from there on, of those that change them.
    """
    names = [stage.name for stage in stages]
    until = None if branch.point in {"", *names} else parse_count(branch.point)
    if until is None:
        last = names.index(branch.point) if branch.point else len(stages) - 1
    else:
        last = next(index for index, end in enumerate(ends) if end >= until)
    path = [
        stage.model_copy(update={"fork": False, "shares": {BASE: changes[i]} if i in changes else {}})
        for i, stage in enumerate(stages[: last + 1])
    ]
    if until is not None:
        path[-1] = path[-1].model_copy(update={"until": min(until, path[-1].until)})
    return path


def check_parents(name: str, branches: Mapping[str, Branch], roots: Sequence[str]) -> None:
    """Refuse a branch that does not descend from the base.

    Raises:
        WrongKey: the origin of such a branch.
    """
    path = [name]
    while path[-1] in branches:
        parent, known = branches[path[-1]].parent, [*roots, *branches]
        if parent not in known:
            hint = did_you_mean(parent, known)
            raise WrongKey(f"no model is named {parent!r}{hint}; the models are {', '.join(known)}", *_from(path[-1]))
        if parent in path:
            raise WrongKey(f"does not descend from base: {' from '.join([*path, parent])}", *_from(name))
        path.append(parent)


def check_fork(name: str, recipe: Line) -> None:
    """Refuse a fork that is no step of the parent, or inside a ramp.

    Raises:
        WrongKey: the origin of the branch.
    """
    branch = recipe.branches[name]
    parent = recipe.line(branch.parent)
    begin, fork = recipe.fork_tokens(branch.parent), parent.fork_index
    own = slice(0, fork) if branch.parent == BASE else slice(fork, None)
    names = [stage.name for stage in parent.stages[own]]
    if not names:
        raise WrongKey(f"{branch.parent} has no step to fork from", *_from(name))
    if branch.point not in {"", *names}:
        try:
            tokens = parse_count(branch.point)
        except ValueError:
            found = f"{branch.point!r} is neither a number of tokens nor a stage of {branch.parent}: {', '.join(names)}"
            raise WrongKey(found, *_from(name)) from None
        if not begin < tokens <= (end := parent.end_tokens[own][-1]):
            span = f"{format_count(begin)} to {format_count(end)} tokens"
            raise WrongKey(f"{branch.parent} is trained from {span}, which {branch.point} is not in", *_from(name))
    line = recipe.line(name)
    starts = [recipe.start_tokens, *line.end_tokens]
    for index, _ in line.own_shares(BASE)[1:]:
        if starts[index] + line.stages[index].ramp > starts[line.fork_index]:
            ramp = line.stages[index].name
            raise WrongKey(f"the ramp of stage {ramp} has not ended there; fork after it", *_from(name))


def check_branch(name: str, recipe: Line) -> None:
    """Refuse stages, shares or a decay that do not continue the path to the fork.

    Raises:
        WrongKey: one of them.
    """
    branch, line, place, context = recipe.branches[name], recipe.line(name), ("branches", name), recipe.model.context
    try:
        check_stages(line.stages, context, len(recipe.corpora), recipe.start_tokens)
    except WrongKey as error:
        index, *key = error.key
        raise WrongKey(str(error), *place, "stages", int(index) - line.fork_index, *key) from None
    before = fork = recipe.fork_tokens(name)
    for index, (stage, end) in enumerate(zip(branch.stages, line.end_tokens[line.fork_index :], strict=True)):
        if end == before:
            found = f"stage {stage.name} has no step, since the last one before it ends at {end} tokens"
            raise WrongKey(f"{found}; let it end later", *place, "stages", index, "until")
        before = end
        for model, shares in stage.shares.items():
            of_stage = (*place, "stages", index, "shares", model)
            if model != name or not index:
                raise WrongKey(f"write shares of {name} here, and those of its first stage as shares of it", *of_stage)
            check_shares(shares, recipe.corpora, *of_stage)
    if branch.decay is not None:
        rate = recipe.line(branch.parent).optimizer.learning_rate
        if fork < rate.warmup or rate.in_force(fork).schedule != "constant":
            raise WrongKey(f"needs a constant learning rate up to the fork, not {rate.describe()}", *place, "decay")
        if branch.decay.minimum >= rate.peak:
            raise WrongKey(f"must be below the peak, {rate.peak:g}", *place, "decay", "minimum")


def _from(name: str) -> tuple[str, ...]:
    return "branches", name, "from"
