"""Plans of shipped recipes stay what they were: a family that has begun must resume on the same rows."""

import hashlib

import numpy as np
import pytest

from tinyllama.plan import compile_plan
from tinyllama.recipe import load_recipe

COLUMNS = ("batch", "contexts", "stage", "before", "counts", "taken")
PINNED = {
    "nano": "aded2d571d38aff7",
    "mini": "5a0990cecb63a9cc",
    "tinyllama-v1.1": "1c93d34ab800788c",
    "tinyllama-v1.0": "6940cdef8a9c8489",
}


@pytest.mark.parametrize("name", PINNED)
def test_the_plan_of_a_shipped_recipe_is_the_pinned_one(name: str) -> None:
    recipe, digest = load_recipe(name), hashlib.sha256()
    for model in recipe.models:
        plan = compile_plan(recipe, None if model == "base" else model)
        for column in COLUMNS:
            digest.update(np.ascontiguousarray(getattr(plan, column), np.int64).tobytes())
        # As multiples of the peak to nine digits: processors differ in the last bits of a cosine.
        digest.update(np.round(plan.lr / recipe.optimizer.learning_rate.peak, 9).astype("<f8").tobytes())
    assert digest.hexdigest()[:16] == PINNED[name]
