"""For tests: a small family, and a made-up ladder, with points of a known law and its record."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

from tests.conftest import SMALL
from tinyllama.design.rules import LossFit
from tinyllama.design.rungs import goal_of, ladder
from tinyllama.family import Family
from tinyllama.ladder.record import LadderRecord, PointRecord, begun, fitted
from tinyllama.recipe import load_recipe

OF_FILES = (
    "corpora.prose.sources=[{files: text/*.txt}]",
    "corpora.prose.cut=400",
    "corpora.prose.held_out={share: 10%, by: block, block: 8}",
    "tokenizer.train.corpora=[code]",
)
"""The prose is in files; the tokenizer does not depend on it."""
ONE = ("base={prose: 75%, code: 25%}", "variants={}", "branches={}", "evaluation.tasks=[]")
"""One model of two corpora."""
LAW = LossFit("planted", 2.0, 60.0, 300.0, 0.4, 0.4, 0, 0)
JOINT = LossFit("planted", 0.0, 2e9, 1.5e10, 0.95, 1.0, 0, 0, gamma=0.15)


@cache
def made_up(measured: float | None = None, rungs: int = 4, law: LossFit = LAW) -> LadderRecord:
    """The record of a ladder of nano, whose points lie on a law exactly."""
    goal = goal_of(load_recipe("nano"), "v1.1")
    found = ladder(goal, rungs, 0.5)
    points = [
        PointRecord(
            rung=rung.name,
            model=branch,
            parameters=rung.shape.parameters,
            tokens=tokens,
            loss=law.loss(rung.shape.parameters, tokens),
        )
        for rung in found
        for branch, tokens in rung.ends.items()
    ]
    return fitted(begun(goal, found, 0.5), points, measured)


def write_text(root: Path, words: str) -> None:
    """The files of `OF_FILES` in a folder."""
    (root / "text").mkdir(parents=True, exist_ok=True)
    (root / "text/a.txt").write_text("".join(f"{words}, said {number} times. " for number in range(6000)))


class Lines:
    """Says of a family, by which tests see what is trained; nothing else is shown."""

    def __init__(self) -> None:
        from tinyllama.family.progress import SILENT

        self.said: list[str] = []
        self.ends_at: str | None = None
        """What a line begins with at which the user ends the command."""
        self.counting, self.training = SILENT.counting, SILENT.training

    def say(self, text: str) -> None:
        self.said.append(text)
        if self.ends_at is not None and text.startswith(self.ends_at):
            raise KeyboardInterrupt


def designed(prepared: Path, folder: Path, *overrides: str, root: Path = Path()) -> tuple[Family, Lines]:
    """A small recipe over nano's text, in a folder of its own."""
    if not folder.exists():
        shutil.copytree(prepared, folder)
    lines = Lines()
    stage = "stages=[{name: base, until: 20K, batch: 4 sequences}]"
    recipe = load_recipe("nano", [*SMALL[5:], *ONE, stage, "optimizer.learning_rate.warmup=1K", *overrides])
    return Family(recipe, folder, root=root, progress=lines), lines
