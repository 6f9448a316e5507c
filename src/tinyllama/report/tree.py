"""The family tree: the base as trunk, variants and branches where they fork, over one token axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.layout import BASE
from tinyllama.recipe.quantities import format_count, format_share
from tinyllama.report.figures import last_tokens, stage_spans
from tinyllama.report.markup import Markup, element
from tinyllama.text import listing

if TYPE_CHECKING:
    from tinyllama.recipe import Recipe
    from tinyllama.report.run_data import RunData

_ROW, _TOP, _AXIS = 72, 34, 30  # pixels: a model's row, the stage names above, the token axis below
_BEND = 7.0  # percent of the width within which a branch reaches its row


def family_tree(run: RunData) -> Markup:
    """Lines in an SVG that stretches with the page; labels in HTML above it, so that their size stays fixed."""
    recipe = run.recipe
    height = _TOP + _ROW * len(run.models) + _AXIS
    spans = stage_spans(recipe)
    total = last_tokens(recipe)
    branches = [_Branch(run, model, total) for model in run.models]
    svg = element(
        "svg",
        [_band(100 * start / total, 100 * end / total, height - _AXIS) for _, start, end in spans[1::2]],
        [branch.line() for branch in branches],
        viewBox=f"0 0 100 {height}",
        preserveAspectRatio="none",
        role="img",
        aria_label=_label(recipe),
    )
    words = [
        [branch.label() for branch in branches],
        [_stage(stage.name, 100 * start / total, 100 * end / total) for stage, start, end in spans],
        [_tick(format_count(stage.until), 100 * end / total) for stage, _, end in spans],
        _tick(format_count(total), 100) if spans[-1][2] < total else None,
    ]
    return element("div", svg, words, class_="tree", style=f"height:{height}px")


def shares_in_words(recipe: Recipe, model: str) -> str:
    """`75% english · 25% code`, with an arrow to the shares of a later stage."""
    return " → ".join(
        " · ".join(f"{format_share(share)} {corpus}" for corpus, share in shares.items() if share)
        for _, shares in recipe.own_shares(model)
    )


def _band(start: float, end: float, height: int) -> Markup:
    return element("rect", x=f"{start:.3f}", y="0", width=f"{end - start:.3f}", height=height, class_="band")


class _Branch:
    """Where a model's line is drawn: percent of the width from its fork to its end, and pixels from the top."""

    def __init__(self, run: RunData, model: str, total: int) -> None:
        self._recipe, self._model, self._index = run.recipe, model, run.models.index(model)
        self._y, self._parent_y = (
            _TOP + _ROW * run.models.index(name) + _ROW - 16 for name in (model, run.recipe.parent(model))
        )
        fork = run.fork_tokens(model)
        self._fork, self._end = 100 * fork / total, 100 * (fork + run.recipe.own_tokens(model)) / total

    def line(self) -> Markup:
        fork, end, trunk, y = self._fork, self._end, self._parent_y, self._y
        bend = max(fork, min(fork + 6, end - 1))
        path = f"M{fork:.3f} {trunk}C{bend:.3f} {trunk} {fork:.3f} {y} {bend:.3f} {y}H{end:g}"
        if self._model == BASE:
            path = f"M0 {y}H{end:.3f}"
        return element("path", d=path, class_="branch", style=f"stroke:var(--model-{self._index})")

    def label(self) -> Markup:
        """Above the line: at its begin if it ends before the others, as the base does, else at its end."""
        room = self._end if self._model == BASE else 100 - self._fork - _BEND
        place = "left:0" if self._model == BASE else f"left:{self._fork + _BEND:.3f}%"
        if self._model != BASE and self._end > 99:
            place = "right:0;text-align:right"
        return element(
            "div",
            element("strong", self._model, style=f"color:var(--model-{self._index})"),
            element("span", shares_in_words(self._recipe, self._model)),
            class_="leaf",
            style=f"{place};bottom:calc(100% - {self._y - 5}px);--room:{room:.3f}%",
        )


def _stage(name: str, start: float, end: float) -> Markup:
    style = f"left:{start:.3f}%;width:{end - start:.3f}%"
    return element("div", name, class_="stage", title=name, style=style)


def _tick(text: str, end: float) -> Markup:
    return element("div", text, class_="tick", style=f"right:{100 - end:.3f}%")


def _label(recipe: Recipe) -> str:
    base = f"Family tree: the base ({shares_in_words(recipe, BASE)}) is trained on "
    tokens = recipe.own_tokens(BASE) + recipe.start_tokens
    text = f"{base}{format_count(tokens, digits=3)} tokens"
    if recipe.variants:
        branches = [f"{name} ({shares_in_words(recipe, name)})" for name in recipe.variants]
        text += f"; from there {listing(branches)} continue to {format_count(recipe.stages[-1].until)}"
    for name, branch in recipe.branches.items():
        fork, end = recipe.fork_tokens(name), branch.stages[-1].until
        text += f"; {name} ({shares_in_words(recipe, name)}) forks from {branch.parent} at {format_count(fork)} tokens"
        text += f" and continues to {format_count(end)}"
    return f"{text}."
