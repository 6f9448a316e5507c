"""A made-up ladder for tests: points of a known law, and its record."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from tinyllama.design.rules import LossFit
from tinyllama.design.rungs import goal_of, ladder
from tinyllama.ladder.record import LadderRecord, PointRecord, begun, fitted
from tinyllama.recipe import load_recipe

if TYPE_CHECKING:
    from pathlib import Path

OF_FILES = (
    "corpora.prose.sources=[{files: text/*.txt}]",
    "corpora.prose.cut=400",
    "corpora.prose.held_out={share: 10%, by: block, block: 8}",
    "tokenizer.train.corpora=[code]",
)
"""The prose is in files; the tokenizer does not depend on it."""
LAW = LossFit("planted", 2.0, 60.0, 300.0, 0.4, 0.4, 0, 0)


@cache
def made_up(measured: float | None = None, rungs: int = 4) -> LadderRecord:
    """The record of a ladder of nano, whose points lie on the law exactly."""
    goal = goal_of(load_recipe("nano"), "v1.1")
    found = ladder(goal, rungs, 0.5)
    points = [
        PointRecord(
            rung=rung.name,
            model=branch,
            parameters=rung.shape.parameters,
            tokens=tokens,
            loss=LAW.loss(rung.shape.parameters, tokens),
        )
        for rung in found
        for branch, tokens in rung.ends.items()
    ]
    return fitted(begun(goal, found, 0.5), points, measured)


def write_text(root: Path, words: str) -> None:
    """The files of `OF_FILES` in a folder."""
    (root / "text").mkdir(parents=True, exist_ok=True)
    (root / "text/a.txt").write_text("".join(f"{words}, said {number} times. " for number in range(6000)))
