"""The optimizer describes itself: what a card says, which moments it keeps, and their size."""

import math

import pytest

from tinyllama.errors import RecipeError
from tinyllama.recipe import load_recipe


def test_the_description_names_what_trains_which_weights() -> None:
    adamw, muon = (load_recipe("nano", [f"optimizer.kind={kind}"]).optimizer for kind in ("adamw", "muon"))
    assert adamw.describe() == "AdamW, betas 0.9/0.95, eps 1e-08, weight decay 0.1, clip 1"
    assert muon.describe().startswith("Muon for the blocks' matrices (momentum 0.95), AdamW for the rest (betas 0.9/")


def test_the_description_names_groups_and_z_loss() -> None:
    factors = "optimizer.learning_rate_factors={embeddings: 0.5, matrices: 2}"
    text = load_recipe("nano", ["optimizer.weight_decay_of=matrices", factors, "optimizer.z_loss=1e-4"])
    assert text.optimizer.describe() == (
        "AdamW, betas 0.9/0.95, eps 1e-08, weight decay 0.1 (matrices of blocks and head alone), clip 1, "
        "learning rate of embeddings x0.5, matrices x2, z-loss 0.0001"
    )


def test_a_head_that_shares_the_embeddings_has_no_learning_rate_of_its_own() -> None:
    with pytest.raises(RecipeError, match=r"learning_rate_factors\.head: .*set learning_rate_factors\.embeddings"):
        load_recipe("nano", ["model.tied_embeddings=true", "optimizer.learning_rate_factors.head=2"])
    load_recipe("nano", ["model.tied_embeddings=true", "optimizer.learning_rate_factors.embeddings=2"])


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
