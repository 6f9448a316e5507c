"""Horizontal bars with a limit line, as an SVG that reads on light and dark pages."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH, _LABELS, _VALUES, _ROW, _TOP = 860, 300, 90, 26, 56
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#222}.title{font-weight:600}.note{fill:#666}"
    ".bar{fill:#8aa4c8}.ours{fill:#2f6fde}.limit{stroke:#c0392b;stroke-dasharray:4 3}.limit-text{fill:#c0392b}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.note{fill:#999}.bar{fill:#4d6286}.ours{fill:#5b93f5}"
    ".limit{stroke:#e57368}.limit-text{fill:#e57368}}"
)


class Chart(NamedTuple):
    """Bars of one quantity."""

    title: str
    unit: str
    bars: Sequence[tuple[str, float]]
    limit: float | None = None
    """What the machine could do at most, in the same unit."""
    limit_name: str = ""


def draw(charts: Sequence[Chart]) -> str:
    """All charts under each other, as one SVG."""
    parts, top = [], 0
    for chart in charts:
        parts.append(f'<g transform="translate(0 {top})">{_draw_one(chart)}</g>')
        top += _TOP + _ROW * len(chart.bars) + 24
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" width="{_WIDTH}" height="{top}">'
        f"<style>{_STYLE}</style>{''.join(parts)}</svg>\n"
    )


def _draw_one(chart: Chart) -> str:
    room = _WIDTH - _LABELS - _VALUES
    scale = room / max([value for _, value in chart.bars] + [chart.limit or 0.0])
    lines = [
        f'<text class="title" x="0" y="18">{escape(chart.title)}</text>',
        f'<text class="note" x="0" y="38">{escape(chart.unit)}</text>',
    ]
    for index, (name, value) in enumerate(chart.bars):
        y = _TOP + _ROW * index
        kind = "bar ours" if name.startswith("tinyllama") else "bar"
        lines += [
            f'<text x="{_LABELS - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{kind}" x="{_LABELS}" y="{y}" width="{value * scale:.1f}" height="{_ROW - 6}"/>',
            f'<text x="{_LABELS + value * scale + 6:.1f}" y="{y + 15}">{value:,.0f}</text>',
        ]
    if chart.limit is not None:
        x = _LABELS + chart.limit * scale
        end = _TOP + _ROW * len(chart.bars)
        name = f"{escape(chart.limit_name)} {chart.limit:,.0f}"
        lines += [
            f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 12}" y2="{end}"/>',
            f'<text class="limit-text" x="{x:.1f}" y="{_TOP - 18}" text-anchor="end">{name}</text>',
        ]
    return "".join(lines)
