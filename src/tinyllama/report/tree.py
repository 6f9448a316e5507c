"""The family tree: the base as trunk and the variants as branches, over one token axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.layout import BASE
from tinyllama.recipe.quantities import format_count, format_share
from tinyllama.report.figures import stage_spans
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
    total = spans[-1][2]
    fork = 100 * spans[recipe.fork_index][1] / total
    rows = {model: _TOP + _ROW * index + _ROW - 16 for index, model in enumerate(run.models)}
    svg = element(
        "svg",
        [_band(100 * start / total, 100 * end / total, height - _AXIS) for _, start, end in spans[1::2]],
        [_branch(model, index, fork, rows) for index, model in enumerate(run.models)],
        viewBox=f"0 0 100 {height}",
        preserveAspectRatio="none",
        role="img",
        aria_label=_label(recipe),
    )
    words = [
        [_name(model, index, fork, rows[model], recipe) for index, model in enumerate(run.models)],
        [_stage(stage.name, 100 * start / total, 100 * end / total) for stage, start, end in spans],
        [_tick(format_count(stage.until), 100 * end / total) for stage, _, end in spans],
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


def _branch(model: str, index: int, fork: float, rows: dict[str, int]) -> Markup:
    trunk, y = rows[BASE], rows[model]
    bend = min(fork + 6, 99)
    path = (
        f"M0 {y}H{fork:.3f}"
        if model == BASE
        else f"M{fork:.3f} {trunk}C{bend:.3f} {trunk} {fork:.3f} {y} {bend:.3f} {y}H100"
    )
    return element("path", d=path, class_="branch", style=f"stroke:var(--model-{index})")


def _name(model: str, index: int, fork: float, y: int, recipe: Recipe) -> Markup:
    # The base's label is above the trunk; a variant's label is right-aligned with the end of its branch.
    place = "left:0" if model == BASE else "right:0;text-align:right"
    room = fork if model == BASE else 100 - fork - _BEND
    return element(
        "div",
        element("strong", model, style=f"color:var(--model-{index})"),
        element("span", shares_in_words(recipe, model)),
        class_="leaf",
        style=f"{place};bottom:calc(100% - {y - 5}px);--room:{room:.3f}%",
    )


def _stage(name: str, start: float, end: float) -> Markup:
    style = f"left:{start:.3f}%;width:{end - start:.3f}%"
    return element("div", name, class_="stage", title=name, style=style)


def _tick(text: str, end: float) -> Markup:
    return element("div", text, class_="tick", style=f"right:{100 - end:.3f}%")


def _label(recipe: Recipe) -> str:
    fork = format_count(stage_spans(recipe)[recipe.fork_index][1], digits=3)
    branches = [f"{name} ({shares_in_words(recipe, name)})" for name in recipe.variants]
    return (
        f"Family tree: the base ({shares_in_words(recipe, BASE)}) is trained on {fork} tokens; from there "
        f"{listing(branches)} continue to {format_count(recipe.stages[-1].until)}."
    )
