"""One self-contained page: style, data, plotly and script are inline; the page makes no requests."""

from __future__ import annotations

import json
import math
from importlib.resources import files
from typing import TYPE_CHECKING

from tinyllama.errors import UserError
from tinyllama.files import write_atomic
from tinyllama.installation import install_hint
from tinyllama.layout import REPORT_TITLE, FamilyLayout
from tinyllama.report import sections
from tinyllama.report.markup import Markup, element, join
from tinyllama.report.run_data import read_run

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.recipe import Recipe
    from tinyllama.report.figures import Figure
    from tinyllama.report.run_data import RunData

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"
"""Makes the browser block every request from the page."""

_NAVIGATION = {
    "family": "Family",
    "learnt": "Bits per byte",
    "curves": "Curves",
    "shares": "Shares",
    "tasks": "Tasks",
    "samples": "Samples",
    "machine": "Machine",
}


def write_report(run: Path, recipe: Recipe) -> Path:
    """Write `report.html` into a family's folder, from the folder's contents.

    Reads summary.json, every model's metrics.jsonl and evaluation/samples.json. A section without data is replaced by
    a line with the reason.

    Raises:
        ModelError: the folder does not exist.
        UserError: plotly is not installed.
    """
    path = FamilyLayout(run).report
    write_atomic(path, render(read_run(run, recipe)))
    return path


def render(run: RunData) -> str:
    """The page.

    Raises:
        UserError: plotly is not installed.
    """
    figures: list[Figure] = []
    main = [
        sections.family(run),
        sections.learnt(run),
        sections.curves(run, figures),
        sections.shares(run, figures),
        sections.tasks(run, figures),
        sections.samples(run),
        sections.machine(run),
    ]
    links = [element("a", title, href=f"#{name}") for name, title in _NAVIGATION.items()]
    body = element(
        "body",
        element("a", "Skip to content", href="#content", class_="skip"),
        sections.headline(run),
        element("nav", links, aria_label="Sections"),
        element("main", main, id="content"),
        element("noscript", element("p", "The figures need JavaScript; the tables do not.")),
        _scripts(figures),
    )
    return document(f"{run.recipe.name} · {REPORT_TITLE}", len(run.models), body)


def document(title: str, colors: int, body: Markup) -> str:
    """A page in the report's style, with a color `--model-<index>` for each model; they repeat after eight models."""
    palette = "".join(f"--model-{i}:var(--hue-{i % 8});" for i in range(colors))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(f"{_own('style.css')}:root{{{palette}}}\n")),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _scripts(figures: list[Figure]) -> Markup | None:
    if not figures:
        return None
    data = [
        {"id": f.name, "data": [line.to_plotly() for line in f.lines], "layout": f.layout, "height": f.height}
        for f in figures
    ]
    text = json.dumps(_finite(data), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return join(
        element("script", Markup(text), type="application/json", id="figures"),
        element("script", Markup(_plotly())),
        element("script", Markup(_own("behavior.js"))),
    )


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]  # ships no types; heavy
    except ImportError:
        raise UserError(f"the report needs an extra: {install_hint('report')}") from None
    script: str = get_plotlyjs()
    return script


def _own(name: str) -> str:
    return (files("tinyllama.report") / name).read_text(encoding="utf-8")


def _finite(value: object) -> object:
    """Replace NaN, which JSON does not have, with a gap in the line."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
