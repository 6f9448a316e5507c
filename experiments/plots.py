"""Lines through points, as SVG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinyllama.report.markup import Markup, element

if TYPE_CHECKING:
    from collections.abc import Sequence

_PLOT, _HIGH, _MARGIN = 300, 240, 60  # pixels
_COLORS = ("#2f6fde", "#d9480f", "#2b8a3e", "#9c36b5", "#868e96", "#e67700")


@dataclass(frozen=True)
class Plot:
    """A line through points for each name."""

    title: str
    x: str
    lines: dict[str, list[tuple[float, float]]]


def svg(plots: Sequence[Plot]) -> str:
    """Plots side by side, above the names of their lines."""
    names = list(plots[0].lines)
    height = _HIGH + 2 * _MARGIN + 20 * len(names)
    parts = [part for number, plot in enumerate(plots) for part in _plotted(plot, number * (_PLOT + 2 * _MARGIN))]
    for row, name in enumerate(names):
        y = _HIGH + 2 * _MARGIN + 20 * row
        parts.append(element("text", name, x=_MARGIN, y=y, style=f"fill:{_COLORS[row % len(_COLORS)]}"))
    style = Markup("text{font:13px system-ui,sans-serif;fill:#555}polyline{fill:none;stroke-width:2}")
    width = len(plots) * (_PLOT + 2 * _MARGIN)
    return element(
        "svg", element("style", style), *parts, xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width} {height}"
    ) + Markup("\n")


def _plotted(plot: Plot, left: float) -> list[Markup]:
    points = [point for line in plot.lines.values() for point in line]
    (x0, x1), (y0, y1) = ((min(values), max(values)) for values in zip(*points, strict=True))
    left, bottom = left + _MARGIN, _MARGIN + _HIGH
    parts = [
        element("text", plot.title, x=left, y=_MARGIN / 2),
        element("text", f"{y1:.2f}", x=left - 8, y=_MARGIN + 5, text_anchor="end"),
        element("text", f"{y0:.2f}", x=left - 8, y=bottom + 5, text_anchor="end"),
        element("text", f"{x0:.2f}", x=left, y=bottom + 22),
        element("text", plot.x, x=left + _PLOT / 2, y=bottom + 22, text_anchor="middle"),
        element("text", f"{x1:.2f}", x=left + _PLOT, y=bottom + 22, text_anchor="end"),
    ]
    for row, line in enumerate(plot.lines.values()):
        color = _COLORS[row % len(_COLORS)]
        at = [(left + _PLOT * (x - x0) / (x1 - x0), bottom - _HIGH * (y - y0) / (y1 - y0)) for x, y in line]
        parts.append(element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in at), style=f"stroke:{color}"))
        parts += [element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=3, style=f"fill:{color}") for x, y in at]
    return parts
