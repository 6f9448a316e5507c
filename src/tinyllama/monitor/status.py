"""The state of each model of a family: where its training is, how fast, and how it ended."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from tinyllama.checkpoint.format import steps_saved
from tinyllama.errors import ModelError
from tinyllama.layout import BASE, FamilyLayout
from tinyllama.monitor.tail import MetricsTail
from tinyllama.recipe import load_recipe
from tinyllama.train.process import read_process

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from tinyllama.files import Json
    from tinyllama.recipe import Recipe
    from tinyllama.train.metrics import HeldOutRecord, StepRecord
    from tinyllama.train.process import TrainingProcess

State = Literal["waiting", "starting", "training", "silent", "stopped", "killed", "failed", "done"]
"""`silent`: on another machine, whose process cannot be looked at, and without news for long."""

_PATIENCE = 120.0
"""Seconds without a record after which training elsewhere counts as silent; ten steps if these take longer."""


@dataclass(frozen=True, kw_only=True)
class ModelStatus:
    """What one model is doing; None stands for what is not known yet."""

    model: str
    parent: str | None
    """The model that it forks from; None for the base."""
    state: State
    reason: str
    """Of `stopped` and `failed`: what ended training."""
    step: int
    """Steps that are done, those before the fork included; 0 before the first record."""
    steps: int
    """Of the whole plan."""
    first_tokens: int
    """Seen before the model's own first step."""
    tokens: int
    """Seen so far."""
    last_tokens: int
    """Seen after its last step."""
    last: StepRecord | None
    """The last step whose update was made."""
    tokens_per_second: float | None
    """Mean over the last steps, time for checkpoints included."""
    seconds_left: float | None
    """While it trains."""
    silent_seconds: float | None
    """Since the last record."""
    held_out: HeldOutRecord | None
    """The last measurement."""
    checkpoint: int | None
    """Step of the newest checkpoint in the folder."""
    checkpoint_seconds: float | None
    """Since it was written."""
    spikes: int
    """Steps that were skipped as loss spikes."""
    last_spike: int | None
    """The last such step."""
    overflows: int
    """Steps that were skipped since fp16 gradients overflowed."""

    @property
    def fraction(self) -> float:
        """The part of its own tokens that it has seen."""
        return (self.tokens - self.first_tokens) / max(1, self.last_tokens - self.first_tokens)

    @property
    def is_active(self) -> bool:
        """Whether it trains, as far as this machine can tell."""
        return self.state in {"starting", "training"}


@dataclass(frozen=True, kw_only=True)
class FamilyStatus:
    """What the models of a family are doing."""

    family: str
    folder: str
    is_live: bool
    """Whether a process trains the family, be it between two models."""
    seconds_left: float | None
    """For all models that are not done, at the present speed."""
    models: list[ModelStatus]

    def to_json(self) -> Json:
        """All of it, with `fraction` for each model."""
        return asdict(self) | {"models": [asdict(model) | {"fraction": model.fraction} for model in self.models]}


class FamilyMonitor:
    """Looks at a family's folder again and again; reads only what is new there, and locks nothing."""

    def __init__(self, recipe: Recipe, layout: FamilyLayout, models: Sequence[str]) -> None:
        """Bind a folder, and the models to look at."""
        self._recipe, self._layout = recipe, layout
        self._tails = {model: MetricsTail(layout.metrics(model)) for model in models}

    def read(self) -> FamilyStatus:
        """Look at the folder.

        Raises:
            TrainingError: a file of a model is damaged.
            NewerFormatError: a later version wrote it.
        """
        models = [self._read_model(model) for model in self._tails]
        processes = [read_process(self._layout.process(model)) for model in self._recipe.models]
        return FamilyStatus(
            family=self._recipe.name,
            folder=str(self._layout.root),
            is_live=any(model.is_active for model in models)
            or any(process is not None and process.is_alive for process in processes),
            seconds_left=family_seconds_left(
                (model.state, model.last_tokens - model.tokens, model.tokens_per_second) for model in models
            ),
            models=models,
        )

    def _read_model(self, model: str) -> ModelStatus:
        recipe, layout, tail = self._recipe, self._layout, self._tails[model]
        tail.update()
        recent, first = tail.steps, recipe.fork_tokens(model)
        tokens = max((record.tokens for record in (*recent[-1:], tail.skipped) if record is not None), default=first)
        step = max((record.step for record in (*recent[-1:], tail.skipped) if record is not None), default=0)
        saved, steps = steps_saved(layout.checkpoints(model)), planned_steps(recipe, model)
        process, silent = read_process(layout.process(model)), _age(layout.metrics(model))
        slowest = max((record.seconds + record.checkpoint_seconds for record in recent), default=0.0)
        speed, end = _speed(recent), first + recipe.own_tokens(model)
        state, reason = model_state(process, slowest, silent, is_complete=steps in saved, has_all_tokens=tokens >= end)
        return ModelStatus(
            model=model,
            parent=None if model == BASE else recipe.parent(model),
            state=state,
            reason=reason,
            step=step,
            steps=steps,
            first_tokens=first,
            tokens=end if state == "done" else tokens,
            last_tokens=end,
            last=recent[-1] if recent else None,
            tokens_per_second=speed,
            seconds_left=(end - tokens) / speed if speed and state == "training" else None,
            silent_seconds=silent,
            held_out=tail.held_out,
            checkpoint=saved[-1] if saved else None,
            checkpoint_seconds=_age(layout.checkpoints(model) / f"step-{saved[-1]}") if saved else None,
            spikes=tail.spikes,
            last_spike=None if tail.last_spike is None else tail.last_spike.step,
            overflows=tail.overflows,
        )


def open_monitor(folder: Path) -> FamilyMonitor:
    """The monitor of a family's folder, or of that of one of its models.

    Raises:
        ModelError: no training has begun there.
        RecipeError: the recipe there cannot be read.
    """
    for layout, models in ((FamilyLayout(folder), None), (FamilyLayout(folder.absolute().parent), [folder.name])):
        if layout.recipe.is_file():
            recipe = load_recipe(str(layout.recipe))
            if set(models or recipe.models) <= set(recipe.models):
                return FamilyMonitor(recipe, layout, models or recipe.models)
    raise ModelError(
        f"{folder}: no training has begun here; name the folder of a family, such as runs/mini, once `tinyllama train` "
        "has said that it trains"
    )


def planned_steps(recipe: Recipe, model: str) -> int:
    """Steps of a model's plan, without compiling it: each stage is a whole number of them."""
    line = recipe.line(model)
    ends = [recipe.start_tokens, *line.end_tokens]
    stages = line.stages[: line.fork_index] if model == BASE else line.stages
    return sum(
        (end - begin) // (line.batch_sequences(stage) * line.context(stage))
        for stage, begin, end in zip(stages, ends, ends[1:], strict=False)
    )


def model_state(
    process: TrainingProcess | None,
    slowest: float,
    silent: float | None,
    *,
    is_complete: bool,
    has_all_tokens: bool,
) -> tuple[State, str]:
    """What a model is doing, and why it ended.

    Args:
        process: that trained it last, if that is known.
        slowest: seconds of the slowest of its last steps.
        silent: seconds since its last record; None if it has none.
        is_complete: whether its last checkpoint is here.
        has_all_tokens: whether its records reach the end, which alone tells it where neither process nor checkpoint is.
    """
    has_ended = process is None or process.outcome is not None or not process.is_alive
    if (is_complete and has_ended) or (has_all_tokens and process is None):
        return "done", ""
    if process is None:  # an earlier version trains it, or nothing does
        return ("waiting", "") if silent is None else (_elsewhere(slowest, silent), "")
    if process.outcome is not None:
        return ("done" if process.outcome == "finished" else process.outcome), process.reason
    since = time.time() - process.began
    has_news = silent is not None and silent < since
    if not process.is_here:
        return (_elsewhere(slowest, silent or since) if has_news or since > _PATIENCE else "starting"), ""
    if not process.is_alive:
        return "killed", ""
    return ("training" if has_news else "starting"), ""


def family_seconds_left(models: Iterable[tuple[State, int, float | None]]) -> float | None:
    """For all models, at the speed of one that trains; those that train side by side are not told apart.

    Args:
        models: the state of each, the tokens that it has not seen, and its tokens per second.
    """
    known = list(models)
    speeds = [speed for state, _, speed in known if state == "training" and speed]
    return sum(left for state, left, _ in known if state != "done") / speeds[0] if speeds else None


def _elsewhere(slowest: float, silent: float) -> State:
    """The state of a model whose process cannot be looked at."""
    return "training" if silent < max(_PATIENCE, 10 * slowest) else "silent"


def _speed(recent: Sequence[StepRecord]) -> float | None:
    """Mean tokens per second of the last steps, the time for checkpoints between them included."""
    tokens = sum(record.tokens_per_second * record.seconds for record in recent)
    seconds = sum(record.seconds + record.checkpoint_seconds for record in recent)
    return tokens / seconds if seconds else None


def _age(path: Path) -> float | None:
    """Seconds since a file or folder was changed; None if it is not there."""
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except FileNotFoundError:
        return None
