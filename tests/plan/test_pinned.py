"""Plans of shipped recipes stay what they were: a family that has begun must resume on the same rows."""

import hashlib

import numpy as np
import pytest

from tinyllama.plan import compile_plan
from tinyllama.recipe import load_recipe

COLUMNS = ("batch", "contexts", "stage", "before", "counts", "taken")
PINNED: dict[str, tuple[str, list[float]]] = {
    "nano": ("e124b4fb00216c6b", [0.001024, 0.0034807642189767143, 0.0020278874117531146, 0.0004]),
    "mini": ("dc5de2dbbae6ed92", [0.00025600000000000004, 0.004085166888158374, 0.0020039916849332994, 0.0005]),
    "tinyllama-v1.1": (
        "a1481a56c1dfc4bd",
        [2.0000000000000002e-07, 0.0003196044277482833, 0.00014929375318857476, 4e-05],
    ),
    "tinyllama-v1.0": (
        "402e034969efec88",
        [2.0000000000000002e-07, 0.00031045648071913407, 0.0001302285305050768, 4e-05],
    ),
}
"""Hash of all columns of all models, and rates of the last model at four steps."""


@pytest.mark.parametrize("name", PINNED)
def test_the_plan_of_a_shipped_recipe_is_the_pinned_one(name: str) -> None:
    recipe, digest = load_recipe(name), hashlib.sha256()
    for model in recipe.models:
        plan = compile_plan(recipe, None if model == "base" else model)
        for column in COLUMNS:
            digest.update(np.ascontiguousarray(getattr(plan, column), np.int64).tobytes())
    assert digest.hexdigest()[:16] == PINNED[name][0]
    places = np.linspace(0, plan.steps - 1, 4, dtype=int)
    assert plan.lr[places].tolist() == pytest.approx(PINNED[name][1], rel=1e-12), "but for a cosine's last bits"
