"""Trains the base of a family, as `tinyllama train` does: python trainer.py RECIPE FOLDER [KEY=VALUE …].

It skips the checks before the first step, which demand room for checkpoints that a benchmark never reaches.
"""

from __future__ import annotations

import sys

from tinyllama.family import Family
from tinyllama.recipe import load_recipe
from tinyllama.train.trainer import train


def main() -> None:
    """Train until killed."""
    recipe, folder, *overrides = sys.argv[1:]
    train(Family(load_recipe(recipe, overrides), folder).training_run("base"))


if __name__ == "__main__":
    main()
