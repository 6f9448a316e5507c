"""The optimizer describes itself: what a card says, which moments it keeps, and their size."""

import math

import pytest

from tinyllama.recipe import load_recipe


def test_the_description_names_what_trains_which_weights() -> None:
    adamw, muon = (load_recipe("nano", [f"optimizer.kind={kind}"]).optimizer for kind in ("adamw", "muon"))
    assert adamw.describe() == "AdamW, betas 0.9/0.95, eps 1e-08, weight decay 0.1, clip 1"
    assert muon.describe().startswith("Muon for the blocks' matrices (momentum 0.95), AdamW for the rest (betas 0.9/")


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("tied", ["true", "false"])
def test_the_size_of_the_moments_is_that_of_the_weights_each_is_kept_of(kind: str, tied: str) -> None:
    from tinyllama.model.stored_weights import parameter_shapes

    recipe = load_recipe("nano", [f"optimizer.kind={kind}", f"model.tied_embeddings={tied}"])
    sizes = {name: math.prod(shape) for name, shape in parameter_shapes(recipe.model).items()}
    assert sum(sizes.values()) == recipe.model.parameters
    kept = sum(4 * size * len(recipe.optimizer.state_names(name)) for name, size in sizes.items())
    assert recipe.optimizer.state_bytes(recipe.model) == kept


def test_shapes_that_fp32_cannot_tell_apart_are_one_model() -> None:
    shape = load_recipe("nano").model
    spelled = shape.model_copy(update={"norm_eps": 9.999999747378752e-06, "rope_theta": 10000.0001})
    assert spelled != shape
    assert spelled.in_fp32 == shape.in_fp32
    assert shape.model_copy(update={"norm_eps": 1.1e-05}).in_fp32 != shape.in_fp32
