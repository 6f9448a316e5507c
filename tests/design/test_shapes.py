from itertools import pairwise

import pytest

from tinyllama.design.shapes import FAMILIES, candidates
from tinyllama.recipe import load_recipe


def test_the_wide_family_holds_tinyllama_itself() -> None:
    assert FAMILIES["tinyllama"].shape(2048, 32000, 2048) == load_recipe("tinyllama-v1.1").model


def test_the_deep_family_holds_smollm2_360m() -> None:
    shape = FAMILIES["smollm"].shape(960, 49152, 8192)
    assert (shape.layers, shape.ffn, shape.heads, shape.kv_heads) == (32, 2560, 15, 5)
    assert shape.parameters == pytest.approx(362e6, rel=0.01)


@pytest.mark.parametrize("family", [None, *FAMILIES])
def test_every_candidate_is_a_valid_shape_and_larger_than_the_one_before(family: str | None) -> None:
    sizes = [family.shape(width, 4096, 512).parameters for family, width in candidates(family)]
    assert all(before < after for before, after in pairwise(sizes))
    assert sizes[0] < 1e6
    assert sizes[-1] > 1e9
