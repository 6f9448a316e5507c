"""Plotly figures as plain data; the page's script applies the light or dark colors.

Each line names its model in `meta`, so that a model has one color in all figures and can be hidden in all of them
at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from tinyllama.layout import BASE
from tinyllama.plan import share_at
from tinyllama.plan.schedule import stage_ends
from tinyllama.report.run_data import coarsen
from tinyllama.report.smoothing import running_mean
from tinyllama.text import listing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tinyllama.evaluation.scores import TaskScore
    from tinyllama.files import Json
    from tinyllama.recipe import Recipe, Stage
    from tinyllama.report.run_data import Bin, History, RunData, StageHistory


SHARE_POINTS = 16
"""Bins per stage of realized shares; each bin has enough steps to average out the rounding of a batch."""


_TICKS = (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 10, 12)


@dataclass(frozen=True)
class Line:
    """One curve of a figure."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    model: str | None
    """Model that determines the curve's color and visibility; None for a curve of the whole family."""
    style: dict[str, Json]
    """Additional keys of plotly's trace."""

    def to_plotly(self) -> dict[str, Json]:
        """The trace as plotly reads it."""
        return {
            "type": "scatter",
            "mode": "lines",
            "name": self.name,
            "meta": {} if self.model is None else {"model": self.model},
            "x": list(self.x),
            "y": list(self.y),
            "line": {"width": 2},
            **self.style,
        }


@dataclass(frozen=True)
class Figure:
    """A figure and a description of what it shows."""

    name: str
    label: str
    lines: list[Line]
    layout: dict[str, Json]
    height: int


def stage_spans(recipe: Recipe) -> list[tuple[Stage, int, int]]:
    """Each stage with the tokens seen before it and at its end, in whole steps."""
    ends = stage_ends(recipe)
    return list(zip(recipe.stages, [recipe.start_tokens, *ends[:-1]], ends, strict=True))


def last_tokens(recipe: Recipe) -> int:
    """Tokens at the end of the longest model."""
    return max(stage_spans(recipe.line(model))[-1][2] for model in recipe.models)


def training_figure(run: RunData) -> Figure:
    """Training loss of every model, above learning rate and batch size, on one token axis."""
    raw = [_raw(run, model) for model in run.histories]
    smooth = [_smooth(run, model) for model in run.histories]
    losses = raw + smooth
    schedule = _schedule(run)
    layout: dict[str, Json] = {
        "xaxis": _token_axis(run.recipe, title="tokens seen", anchor="y3"),
        "yaxis": _loss_axis(losses) | {"title": {"text": "training loss"}, "domain": [0.44, 1]},
        "yaxis2": {
            "title": {"text": "LR"},
            "domain": [0.22, 0.38],
            "rangemode": "tozero",
            "nticks": 3,
            "hoverformat": ".3e",
            "exponentformat": "e",
        },
        "yaxis3": {"title": {"text": "batch"}, "domain": [0, 0.16], "rangemode": "tozero", "nticks": 3},
        "shapes": _bands(run.recipe),
        "annotations": _stage_names(run.recipe),
        "margin": {"t": 28},
        "hovermode": "x unified",
        "hoversubplots": "axis",
    }
    ends = [f"{line.name} ends at {line.y[-1]:.2f}" for line in smooth if run.histories[line.name].bins]
    label = f"Training loss, learning rate and batch by tokens seen. {listing(ends)}."
    return Figure("training", label, losses + schedule, layout, 520)


def held_out_figures(run: RunData) -> list[tuple[str, Figure]]:
    """For each corpus, the held-out loss of every model: in bits per byte if the bytes of its text are known."""
    figures = []
    for corpus in run.recipe.corpora:
        lines, ends = [], []
        nats = math.log(2) * run.bytes_per_token[corpus] if corpus in run.bytes_per_token else 1.0
        for model, history in run.histories.items():
            points = [(tokens, losses[corpus] / nats) for tokens, losses in history.held_out if corpus in losses]
            if not points:
                continue
            ends.append(f"{model} {points[-1][1]:.2f}")
            parent, fork = run.parent_history(model), run.fork_tokens(model)
            before = [item for item in parent.held_out if item[0] <= fork][-1:]
            points = [(tokens, losses[corpus] / nats) for tokens, losses in before if corpus in losses] + points
            lines.append(_line(model, [x for x, _ in points], [y for _, y in points]))
        if lines:
            unit = "bits per byte" if corpus in run.bytes_per_token else "loss"
            label = f"Held-out {unit} on {corpus} by tokens seen; at the end: {listing(ends)}."
            figures.append(
                (corpus, Figure(f"held-out-{corpus}", label, lines, _small(run.recipe, _loss_axis(lines)), 220))
            )
    return figures


@dataclass(frozen=True)
class Measure:
    """A measure of the tasks that were measured during training, and how a figure shows it."""

    name: str
    title: str
    of: Callable[[TaskScore], float | None]
    digits: int
    unit: str = ""
    tasks: Sequence[str] | None = None
    """Those whose mean it is; None takes all that have it."""


MEASURES = (
    Measure("right-bits", "Bits per byte of the right answer; lower is better", lambda task: task.right_bits, 3),
    Measure("margin", "Margin over the best wrong answer, bits per byte; 0 is chance", lambda task: task.margin, 3),
)
"""In which all tasks can be compared."""
FEW = 4
"""Tasks up to which the scores of each get a figure, not their mean."""


def score_figures(run: RunData) -> list[tuple[str, Figure]]:
    """Each measure of the tasks that were measured during training, by tokens seen."""
    figures = []
    for measure in (*_scores(run), *MEASURES):
        lines, ends = [], []
        for model, points in run.by_tokens.items():
            means = []
            for tokens, scores in points:
                measured = [task for name, task in scores.measured.items() if name in (measure.tasks or [name])]
                if values := [value for task in measured if (value := measure.of(task)) is not None]:
                    means.append((tokens, fmean(values)))
            if means:
                lines.append(_line(model, [x for x, _ in means], [y for _, y in means], mode="lines+markers"))
                ends.append(f"{model} {means[-1][1]:.{measure.digits}f}{measure.unit}")
        if not lines:
            continue
        chances = [task.chance for name, task in _measured(run) if measure.unit and name in (measure.tasks or ())]
        known = [chance for chance in chances if chance is not None]
        if known and len(known) == len(chances):
            chance = 100 * fmean(known)
            ends.append(f"chance {chance:.1f}%")
            lines.append(_level("chance", chance, run))
        if measure.name == "margin":
            lines.append(_level("chance", 0.0, run))
        axis: dict[str, Json] = {"hoverformat": f".{measure.digits}f", "nticks": 5}
        label = f"{measure.title}, by tokens seen; at the end: {listing(ends)}."
        layout = _small(run.recipe, axis)
        figures.append((measure.title, Figure(f"{measure.name}-by-tokens", label, lines, layout, 260)))
    return figures


def _scores(run: RunData) -> Iterator[Measure]:
    """The mean of all scores that are shares, or each if they are few; and every score that is no share."""
    found = dict(_measured(run))
    shares = [name for name, score in found.items() if score.is_share]
    if len(shares) > FEW:
        title = "Score, percent; the dashed line is chance"
        yield Measure("score", title, lambda task: 100 * task.score, 1, "%", shares)
    for name, score in found.items():
        if not score.is_share:
            title = f"{name}: {score.metric}; {'higher' if score.higher_is_better else 'lower'} is better"
            yield Measure(f"score-{name}", title, lambda task: task.score, 3, "", [name])
        elif len(shares) <= FEW:
            title = f"{name}: {score.metric}, percent" + ("; the dashed line is chance" if score.chance else "")
            yield Measure(f"score-{name}", title, lambda task: 100 * task.score, 1, "%", [name])


def _measured(run: RunData) -> Iterator[tuple[str, TaskScore]]:
    for points in run.by_tokens.values():
        for _, scores in points:
            yield from scores.measured.items()


def _level(name: str, value: float, run: RunData) -> Line:
    """A dashed line across the figure."""
    ends = [0, stage_spans(run.recipe)[-1][2]]
    return Line(name, ends, [value, value], None, {"line": {"width": 1, "dash": "dash"}, "hoverinfo": "skip"})


def share_figures(run: RunData) -> list[tuple[str, Figure]]:
    """For each corpus, its realized and planned shares in every model's batches."""
    figures = []
    for corpus in run.recipe.corpora:
        lines, ends = [], []
        for model, history in run.histories.items():
            if not history.bins:
                continue
            lines += [_planned(run.recipe, model, corpus), _realized(model, corpus, history)]
            ends.append(f"{model} {lines[-1].y[-1]:.0%}")
        layout = _small(run.recipe, {"hoverformat": ".1%", "tickformat": ".0%", "rangemode": "tozero", "nticks": 5})
        if lines:
            label = f"Share of {corpus} in the batches by tokens seen; at the end: {listing(ends)}."
            figures.append((corpus, Figure(f"share-{corpus}", label, lines, layout, 220)))
    return figures


def _line(model: str, x: Sequence[float], y: Sequence[float], **style: Json) -> Line:
    return Line(model, x, y, model, style)


def _raw(run: RunData, model: str) -> Line:
    """The faint line through a model's points, which has no values to read."""
    points = _continued(run, model, lambda bins: [(item.end, item.loss) for item in bins])
    faint: dict[str, Json] = {"line": {"width": 1}, "opacity": 0.35, "hoverinfo": "skip"}
    return Line(f"{model}, not smoothed", *_columns(points), model, faint)


def _smooth(run: RunData, model: str) -> Line:
    """The line through the means of the points around each."""
    return _line(model, *_columns(_continued(run, model, _smoothed)))


def _smoothed(bins: list[Bin]) -> list[tuple[int, float]]:
    means = running_mean([item.loss for item in bins], [item.steps for item in bins])
    return [(item.end, mean) for item, mean in zip(bins, means, strict=True)]


def _continued(
    run: RunData, model: str, points: Callable[[list[Bin]], list[tuple[int, float]]]
) -> list[tuple[int, float]]:
    """A model's points after its parent's last one before the fork, so that its curve begins there."""
    fork = run.fork_tokens(model)
    before = [point for point in points(run.parent_history(model).bins) if point[0] <= fork]
    return before[-1:] + points(run.histories[model].bins)


def _columns(points: list[tuple[int, float]]) -> tuple[list[float], list[float]]:
    """Tokens and losses; the digits of a loss are those that a picture can show, to keep the page small."""
    return [tokens for tokens, _ in points], [float(f"{loss:.5g}") for _, loss in points]


def _schedule(run: RunData) -> list[Line]:
    """Learning rate and batch size of the base and the first variant that ran, which all share, and of each branch."""
    shared = [model for model in run.histories if model not in run.recipe.branches][:2]
    lines = _schedule_of({n: stage for model in shared for n, stage in run.histories[model].stages.items()}, None)
    for model in run.histories:
        if model in run.recipe.branches:
            lines += _schedule_of(run.histories[model].stages, model)
    return lines


def _schedule_of(stages: Mapping[str, StageHistory], branch: str | None) -> list[Line]:
    bins = [item for stage in stages.values() for item in stage.bins]
    of = "" if branch is None else f" of {branch}"
    edges = [
        (tokens, stage.batch * stage.context)
        for stage in stages.values()
        if stage.bins
        for tokens in (stage.bins[0].start, stage.bins[-1].end)
    ]
    return [
        Line(f"learning rate{of}", [item.end for item in bins], [item.lr for item in bins], branch, {"yaxis": "y2"}),
        Line(f"batch{of}, tokens", [x for x, _ in edges], [y for _, y in edges], branch, {"yaxis": "y3"}),
    ]


def _planned(recipe: Recipe, model: str, corpus: str) -> Line:
    """The plan's share: linear between its breakpoints."""
    variant, recipe = None if model == BASE else model, recipe.line(model)
    spans = stage_spans(recipe)
    changes = [spans[index] for index, _ in recipe.own_shares(model)]
    bends = [edge for stage, start, _ in changes for edge in (start, start + max(stage.ramp, 1))]
    bends.append(spans[-1 if variant else recipe.fork_index - 1][2])
    shares = [share_at(recipe, variant, tokens)[corpus] for tokens in bends]
    return _line(model, bends, shares, line={"width": 4, "dash": "dot"}, opacity=0.45, hoverinfo="skip")


def _realized(model: str, corpus: str, history: History) -> Line:
    bins = [item for stage in history.stages.values() for item in coarsen(stage.bins, SHARE_POINTS)]
    shares = [item.counts.get(corpus, 0) / max(sum(item.counts.values()), 1) for item in bins]
    return _line(model, [(item.start + item.end) / 2 for item in bins], shares)


def _small(recipe: Recipe, yaxis: dict[str, Json]) -> dict[str, Json]:
    return {
        "xaxis": _token_axis(recipe, nticks=5),
        "yaxis": yaxis,
        "shapes": _bands(recipe),
        "hovermode": "x unified",
        "margin": {"t": 6, "l": 42, "b": 30},
    }


def _loss_axis(lines: Sequence[Line]) -> dict[str, Json]:
    """A logarithmic axis, so that the initial drop leaves room for later steps; with a few round ticks."""
    losses = [loss for line in lines for loss in line.y if loss > 0]
    ticks: list[float] = []
    if losses:
        apart = (max(losses) / min(losses)) ** 0.1
        for tick in reversed(_TICKS):
            if min(losses) <= tick * apart and tick <= max(losses) * apart and (not ticks or tick * apart <= ticks[-1]):
                ticks.append(tick)
    return {
        "type": "log",
        "hoverformat": ".3f",
        "tickvals": ticks[::-1],
        "ticktext": [f"{tick:g}" for tick in ticks[::-1]],
    }


def _token_axis(recipe: Recipe, title: str = "", **extra: Json) -> dict[str, Json]:
    axis: dict[str, Json] = {"range": [0, last_tokens(recipe)], "exponentformat": "B", "showgrid": False}
    return axis | ({"title": {"text": title}} if title else {}) | extra


def _bands(recipe: Recipe) -> list[Json]:
    """Shading for every second stage, across all panels."""
    return [
        {"type": "rect", "xref": "x", "yref": "paper", "x0": start, "x1": end, "y0": 0, "y1": 1, "layer": "below"}
        for _, start, end in stage_spans(recipe)[1::2]
    ]


def _stage_names(recipe: Recipe) -> list[Json]:
    """Each stage's name above its band, and the fraction of the axis that it may occupy."""
    last = last_tokens(recipe)
    return [
        {
            "x": (start + end) / 2,
            "xref": "x",
            "y": 1,
            "yref": "paper",
            "yanchor": "bottom",
            "text": stage.name,
            "showarrow": False,
            "share": (end - start) / last,
        }
        for stage, start, end in stage_spans(recipe)
    ]
