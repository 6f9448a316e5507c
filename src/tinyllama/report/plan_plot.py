"""A picture of a plan as SVG: learning rate, batch, context and shares of every model, on one axis of tokens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tinyllama.errors import PlanError
from tinyllama.folders import claim_file
from tinyllama.layout import BASE
from tinyllama.plan import Plan, compile_plan, share_at
from tinyllama.recipe.quantities import format_count
from tinyllama.report.markup import Markup, element

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from tinyllama.recipe import Recipe

_WIDTH, _LEFT, _RIGHT, _TOP = 1200, 150, 1176, 92
_PANELS = (("learning rate", 150), ("batch, tokens", 70), ("context", 70))
_GAP, _ROW, _ROW_GAP = 36, 96, 24  # pixels: above a panel, a model's shares, and above those
_COLORS = ("#1b4f8f", "#b3401a", "#1f7a3d", "#7a3f98", "#8a6d00", "#00727a", "#a0285c", "#4d4d4d")
_FILLS = ("#9dbfe3", "#f3b394", "#a5d6b0", "#d0b3e0", "#e8d58a", "#9ed8dc", "#ecaac6", "#cccccc")
_POINTS = 400
_MARK = "tinyllama-plan"


def write_plan_plot(recipe: Recipe, path: Path) -> None:
    """Draw the plans of all models; raises PlanError if the path holds something else than an earlier picture."""
    claim_file(path, "the plan's picture", _is_plot, PlanError)
    path.write_text(plan_plot(recipe), encoding="utf-8")


def _is_plot(path: Path) -> bool:
    return _MARK.encode() in path.read_bytes()[:1000]


def plan_plot(recipe: Recipe) -> Markup:
    """The picture as SVG, dark on white; a model's lines begin at its fork."""
    plans = [plan for plan in (compile_plan(recipe, model) for model in recipe.models) if _first(plan) < plan.steps]
    last = max(plan.tokens_after(plan.steps) for plan in plans)
    colors = {plan.variant or BASE: _COLORS[i % len(_COLORS)] for i, plan in enumerate(plans)}
    fills = {corpus: _FILLS[i % len(_FILLS)] for i, corpus in enumerate(recipe.corpora)}
    parts, top = [_text(_LEFT, 26, f"{recipe.name}: plan by tokens seen", font_size=18), *_legend(colors, 52)], _TOP
    curves = {plan.variant or BASE: _curves(plan) for plan in plans}
    for index, (name, height) in enumerate(_PANELS, 1):
        parts += _panel(name, {model: points[:, [0, index]] for model, points in curves.items()}, colors, top, last)
        top += height + _GAP
    parts += [_text(_LEFT, top - 8, "shares", font_weight="bold"), *_legend(fills, top - 8, _LEFT + 70)]
    for plan in plans:
        model, top = plan.variant or BASE, top + _ROW_GAP
        label = {"text_anchor": "end", "fill": colors[model], "font_weight": "bold"}
        parts += [_text(_LEFT - 8, top + _ROW / 2 + 4, model, **label), *_shares(recipe, plan, fills, top, last)]
        top += _ROW
    grid = [
        part
        for value in _round_values(last, 10)
        for part in (
            element("path", d=f"M{_x(value, last):.1f} {_TOP}V{top + 8}", stroke="#e4e4e4"),
            _text(_x(value, last), top + 26, format_count(value), text_anchor="middle"),
        )
    ]
    size = {"width": _WIDTH, "height": top + 36}
    box = {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {_WIDTH} {top + 36}", "font_family": "sans-serif"}
    return element("svg", element("rect", fill="#ffffff", **size), grid, parts, class_=_MARK, **box, **size)


def _first(plan: Plan) -> int:
    return plan.fork_step if plan.variant else 0


def _curves(plan: Plan) -> NDArray[np.float64]:
    """Tokens, learning rate, batch and context at the fork and after some own steps: [points, 4]."""
    first = _first(plan)
    edges = [step for _, begin, end in plan.stage_steps() for step in (begin, end - 1) if step >= first]
    at = np.union1d(np.linspace(first, plan.steps - 1, _POINTS).astype(np.int64), np.array(edges))
    at = np.concatenate([at[:1], at])
    tokens, rates, contexts = plan.tokens[at], plan.lr[at], plan.contexts[at]
    tokens[0], rates[0] = plan.tokens_after(first), plan.lr[first - 1] if first else 0.0
    return np.stack([tokens, rates, plan.batch[at] * contexts.astype(np.float64), contexts], axis=1)


def _panel(
    name: str, curves: Mapping[str, NDArray[np.float64]], colors: Mapping[str, str], top: int, last: int
) -> Iterator[Markup]:
    """One quantity of all models over a grid of round values."""
    height = dict(_PANELS)[name]
    high = max(float(points[:, 1].max()) for points in curves.values()) * 1.08
    yield _text(_LEFT, top - 8, name, font_weight="bold")
    for value in _round_values(high, height // 30):
        y = top + height * (1 - value / high)
        yield element("path", d=f"M{_LEFT} {y:.1f}H{_RIGHT}", stroke="#d4d4d4")
        yield _text(_LEFT - 8, y + 4, f"{value:.2g}" if high < 1 else format_count(value), text_anchor="end")
    for model, points in curves.items():
        drawn = " ".join(f"{_x(x, last):.1f},{top + height * (1 - y / high):.1f}" for x, y in points.tolist())
        yield element("polyline", points=drawn, fill="none", stroke=colors[model], stroke_width=2.2)


def _shares(recipe: Recipe, plan: Plan, fills: Mapping[str, str], top: int, last: int) -> Iterator[Markup]:
    """The shares in each of a model's own stages as areas on each other, with percentages in those that have room."""
    stages = recipe.line(plan.variant).stages
    for stage, (name, begin, end) in zip(stages, plan.stage_steps(), strict=False):
        if begin < _first(plan):
            continue
        start, stop = plan.tokens_after(begin), plan.tokens_after(end)
        places = [start + 1, min(start + max(stage.ramp, 1), stop), stop]
        shares = [share_at(recipe, plan.variant, tokens) for tokens in places]
        xs, lower = [_x(tokens, last) for tokens in places], np.zeros(len(places))
        for corpus, fill in fills.items():
            upper = lower + [share[corpus] for share in shares]
            outline = [*zip(xs, lower, strict=True), *zip(xs[::-1], upper[::-1], strict=True)]
            drawn = " ".join(f"{x:.1f},{top + _ROW * (1 - y):.1f}" for x, y in outline)
            yield element("polygon", points=drawn, fill=fill)
            if _ROW * shares[-1][corpus] >= 9 and xs[2] - xs[1] > 36:
                y = top + _ROW * (1 - (lower[-1] + upper[-1]) / 2) + 4
                yield _text((xs[1] + xs[2]) / 2, y, f"{shares[-1][corpus]:.0%}", font_size=11, text_anchor="middle")
            lower = upper
        yield element("path", d=f"M{xs[0]:.1f} {top - 16}V{top + _ROW}", stroke="#555555")
        yield _text(xs[0] + 4, top - 5, name, font_size=12)


def _legend(colors: Mapping[str, str], y: int, x: float = _LEFT) -> Iterator[Markup]:
    for name, color in colors.items():
        yield element("rect", x=x, y=y - 11, width=14, height=12, fill=color)
        yield _text(x + 19, y, name)
        x += 40 + 8 * len(name)


def _round_values(high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from 0 to `high`, at most `most` and the 0."""
    power = 10.0 ** math.floor(math.log10(high / most))
    step = next(factor * power for factor in (1, 2, 5, 10, 20) if high / (factor * power) <= most)
    return [index * step for index in range(int(high / step * (1 + 1e-9)) + 1)]


def _x(tokens: float, last: int) -> float:
    return _LEFT + (_RIGHT - _LEFT) * tokens / last


def _text(x: float, y: float, text: str, **style: str | float) -> Markup:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", **{"fill": "#222222", "font_size": 13, **style})
