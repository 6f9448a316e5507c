"""The picture of a ladder as SVG: losses by tokens, the law through them, the prediction and what was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinyllama.recipe.quantities import format_count
from tinyllama.report.markup import Markup, element

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tinyllama.design.rules import LossFit
    from tinyllama.ladder.record import GoalRecord, PointRecord, PredictionRecord

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 1000, 520, 80, 780, 60, 460
_COLORS = ("#1b4f8f", "#b3401a", "#1f7a3d", "#7a3f98", "#8a6d00", "#00727a", "#a0285c", "#4d4d4d")
_GOAL = "#111111"
_CURVE = 40
"""Points of a curve."""
_ROOM = 1.04
"""Between the outermost losses and the edge, as a factor; tokens have more."""
_LINES = 8
"""Most lines of the grid in a direction."""


def ladder_figure(
    goal: GoalRecord, points: Sequence[PointRecord], law: LossFit, prediction: PredictionRecord
) -> Markup:
    """The picture, dark on white; both axes are logarithmic.

    Args:
        goal: the model that is predicted.
        points: of all rungs, from the smallest.
        law: fitted to them.
        prediction: of the goal's loss.
    """
    scale = _Scale.of(goal, points, prediction)
    rungs = dict.fromkeys(point.rung for point in points)
    lines = [
        part
        for index, rung in enumerate(rungs)
        for part in _rung([point for point in points if point.rung == rung], law, scale, index)
    ]
    title = f"{goal.recipe}: held-out loss by tokens seen, nats a token"
    return element(
        "svg",
        element("rect", width=_WIDTH, height=_HEIGHT, fill="#ffffff"),
        element("title", title),
        _text(_LEFT, 32, title, font_size=18),
        list(_grid(scale)),
        lines,
        list(_goal(goal, law, prediction, scale)),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        width=_WIDTH,
        height=_HEIGHT,
        font_family="sans-serif",
        role="img",
    )


@dataclass(frozen=True)
class _Scale:
    """Tokens and losses of the picture's edges."""

    fewest: float
    most: float
    low: float
    high: float

    @classmethod
    def of(cls, goal: GoalRecord, points: Sequence[PointRecord], prediction: PredictionRecord) -> _Scale:
        tokens = [goal.tokens, *(point.tokens for point in points)]
        losses = [prediction.low, prediction.high, *(point.loss for point in points)]
        if prediction.measured is not None:
            losses.append(prediction.measured)
        room = _ROOM**4
        return cls(min(tokens) / room, max(tokens) * room, min(losses) / _ROOM, max(losses) * _ROOM)

    def x(self, tokens: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * math.log(tokens / self.fewest) / math.log(self.most / self.fewest)

    def y(self, loss: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * math.log(loss / self.low) / math.log(self.high / self.low)

    def curve(self, law: LossFit, parameters: int, until: float) -> str:
        """The law of one size inside the picture, as points of a polyline."""
        tokens = [self.fewest * (until / self.fewest) ** (index / (_CURVE - 1)) for index in range(_CURVE)]
        drawn = [(count, law.loss(parameters, count)) for count in tokens]
        return " ".join(
            f"{self.x(count):.1f},{self.y(loss):.1f}" for count, loss in drawn if self.low <= loss <= self.high
        )


def _grid(scale: _Scale) -> Iterator[Markup]:
    for tokens in _round_values(scale.fewest, scale.most):
        x = scale.x(tokens)
        yield element("path", d=f"M{x:.1f} {_TOP}V{_BOTTOM}", stroke="#e4e4e4")
        yield _text(x, _BOTTOM + 20, format_count(round(tokens), 3), text_anchor="middle")
    for loss in _round_values(scale.low, scale.high):
        y = scale.y(loss)
        yield element("path", d=f"M{_LEFT} {y:.1f}H{_RIGHT}", stroke="#e4e4e4")
        yield _text(_LEFT - 8, y + 4, f"{loss:g}", text_anchor="end")
    yield _text((_LEFT + _RIGHT) / 2, _BOTTOM + 44, "tokens seen", text_anchor="middle")


def _rung(points: Sequence[PointRecord], law: LossFit, scale: _Scale, index: int) -> Iterator[Markup]:
    """The branches of a rung and the law of its size."""
    color, last = _COLORS[index % len(_COLORS)], points[-1]
    drawn = scale.curve(law, last.parameters, last.tokens)
    yield element("polyline", points=drawn, fill="none", stroke=color, stroke_width=1.6)
    for point in points:
        yield element("circle", cx=f"{scale.x(point.tokens):.1f}", cy=f"{scale.y(point.loss):.1f}", r=4, fill=color)
    y = _TOP + 22 * index + 10
    yield element("circle", cx=_RIGHT + 20, cy=y - 4, r=4, fill=color)
    yield _text(_RIGHT + 30, y, f"{last.rung}: {format_count(last.parameters, 3)} parameters")


def _goal(goal: GoalRecord, law: LossFit, prediction: PredictionRecord, scale: _Scale) -> Iterator[Markup]:
    """The law of the recipe's size, the predicted loss with its interval, and the measured loss."""
    drawn = scale.curve(law, goal.parameters, goal.tokens)
    yield element("polyline", points=drawn, fill="none", stroke=_GOAL, stroke_width=1.6, stroke_dasharray="6 4")
    x, y = scale.x(goal.tokens), _BOTTOM - 40
    low, high = scale.y(prediction.low), scale.y(prediction.high)
    yield element("path", d=f"M{x:.1f} {low:.1f}V{high:.1f}", stroke=_GOAL, stroke_width=2)
    yield element("circle", cx=f"{x:.1f}", cy=f"{scale.y(prediction.loss):.1f}", r=5, fill="#ffffff", stroke=_GOAL)
    yield element("circle", cx=_RIGHT + 20, cy=y - 4, r=5, fill="#ffffff", stroke=_GOAL)
    yield _text(_RIGHT + 30, y, f"{goal.model}: predicted {prediction.loss:.3f}")
    if prediction.measured is not None:
        at = scale.y(prediction.measured)
        yield _cross(x, at)
        yield _cross(_RIGHT + 20, y + 18)
        yield _text(_RIGHT + 30, y + 22, f"measured {prediction.measured:.3f}")


def _cross(x: float, y: float) -> Markup:
    left, right, top, bottom = x - 5, x + 5, y - 5, y + 5
    path = f"M{left:.1f} {top:.1f}L{right:.1f} {bottom:.1f}M{left:.1f} {bottom:.1f}L{right:.1f} {top:.1f}"
    return element("path", d=path, stroke="#c02020", stroke_width=2.4)


def _round_values(low: float, high: float) -> list[float]:
    """Values of few digits between two: 1, 2 and 5 times powers of ten, or finer ones where these are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    powers = [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5)]
    inside = [value for value in powers if low <= value <= high]
    if len(inside) > _LINES:
        return [value for value in inside if f"{value:e}"[0] == "1"]
    if len(inside) > 2:
        return inside
    step = next(value for value in [*powers, 10 * powers[-1]] if (high - low) / value <= _LINES)
    finer = [step / 10, step / 5, step / 2, step]
    step = next(value for value in finer if (high - low) / value <= _LINES)
    return [index * step for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _text(x: float, y: float, text: str, **style: str | float) -> Markup:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", **{"fill": "#222222", "font_size": 13, **style})
