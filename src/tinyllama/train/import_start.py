"""Imports a model as the checkpoint that a family's plan starts from: `base/checkpoints/step-0`."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import torch

from tinyllama.checkpoint.fingerprint import fingerprint_inputs
from tinyllama.checkpoint.format import (
    WEIGHT,
    Checkpoint,
    load_tensors,
    save_checkpoint,
    stored_sizes,
    verify,
)
from tinyllama.checkpoint.state import CheckpointState
from tinyllama.checkpoint.store import checkpoint_store
from tinyllama.checkpoint.weights import CheckpointWeights
from tinyllama.errors import CheckpointError, ModelError, RecipeError
from tinyllama.layout import BASE, FamilyLayout
from tinyllama.model.stored_weights import check_weights, parameter_shapes
from tinyllama.plan import compile_plan
from tinyllama.train.machine import exclusive
from tinyllama.train.run import keep_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from tinyllama.formats.model_source import OpenModel
    from tinyllama.recipe import Recipe, Start


def import_start(recipe: Recipe, source: OpenModel, family: Path, tokenizer_sha256: str) -> Checkpoint:
    """Write a model as the step-0 checkpoint of a family's base, and check that it reads back bit for bit.

    Args:
        recipe: has a `start`; its model shape must be the source's.
        source: the weights.
        family: the family's folder.
        tokenizer_sha256: of the family's tokenizer.

    Raises:
        RecipeError: the recipe has no `start`.
        ModelError: tensors are missing, unexpected, of another shape than the recipe's model, or not finite; or
            the recipe keeps moments and the source has none.
        CheckpointError: training has begun from an earlier start, or the checkpoint cannot be written.
        StorageError: or cannot be copied to its URL.
    """
    start = stated_start(recipe)
    store = checkpoint_store(recipe, family, BASE)
    if any(store.steps()):
        raise CheckpointError(
            f"{store.name(0)}: training has begun from an earlier start; import into another folder with --run"
        )
    refuse_other_model(recipe, source)
    tensors = {f"{WEIGHT}{name}": _finite(source, name) for name in parameter_shapes(recipe.model)}
    moment_steps = 0
    if start.moments == "kept":
        moments, moment_steps = _moments(source, recipe)
        tensors |= moments
    inputs = fingerprint_inputs(recipe, compile_plan(recipe), 0, {}, tokenizer_sha256, source.weights_sha256)
    state = CheckpointState(
        recipe=recipe.name,
        run=BASE,
        step=0,
        tokens=recipe.start_tokens,
        fingerprint=inputs.fingerprint(),
        fingerprint_inputs=inputs,
        torch_version=torch.__version__,
        moments=start.moments,
        moment_steps=moment_steps,
        origin=source.origin,
    )
    with exclusive(FamilyLayout(family).model(BASE)):
        checkpoint = verify(save_checkpoint(store.folder, tensors, state))
        try:
            _compare(checkpoint, tensors)
        except CheckpointError:
            shutil.rmtree(checkpoint.folder)
            raise
        keep_recipe(family, recipe, store)
        store.upload(0)
    return checkpoint


def stated_start(recipe: Recipe) -> Start:
    """The recipe's start.

    Raises:
        RecipeError: it has none.
    """
    if recipe.start is None:
        raise RecipeError(
            f"{recipe.name}: the recipe has no `start` section, which says how training continues; add e.g. "
            "start: {model: PATH, tokens: 3T, moments: fresh, rewarm: 2B}"
        )
    return recipe.start


def imported_sha256(recipe: Recipe, family: Path) -> str | None:
    """SHA-256 of the weights that a family's start was imported from; None if nothing was."""
    store = checkpoint_store(recipe, family, BASE)
    return store.state(0).fingerprint_inputs.start_weights if 0 in store.steps() else None


def refuse_other_model(recipe: Recipe, source: OpenModel) -> None:
    """Compare what a model states about itself with the recipe, without reading its tensors.

    Raises:
        RecipeError: the recipe has no `start`.
        ModelError: it is of another shape, lacks tensors, or has no moments though the recipe keeps them.
    """
    _refuse_other_shape(recipe, source)
    check_weights(source.weights, recipe.model, source.origin, "the recipe's model")
    if stated_start(recipe).moments == "kept":
        _stored_moments(source, recipe)


def _refuse_other_shape(recipe: Recipe, source: OpenModel) -> None:
    """Refuse another shape; the context alone may differ, since it can be extended or shortened."""
    asked, found = dict(recipe.model.in_fp32), dict(source.shape.in_fp32)
    differing = [key for key in asked if key != "context" and asked[key] != found[key]]
    if differing:
        stated = ", ".join(f"{key}: {getattr(source.shape, key)}" for key in differing)
        raise ModelError(
            f"{source.origin}: differs from the recipe's model; write model: {{{stated}}}, or model: imported"
        )


def _finite(source: OpenModel, name: str) -> Tensor:
    tensor = source.weights[name].float().contiguous()
    if not torch.isfinite(tensor).all():
        raise ModelError(f"{source.origin}: {name} holds values that are not finite; download the file again")
    return tensor


def _moments(source: OpenModel, recipe: Recipe) -> tuple[dict[str, Tensor], int]:
    """The source's moments, and the updates that they have seen, for bias correction."""
    checkpoint, sizes = _stored_moments(source, recipe)
    moments = {name: torch.empty(size) for name, size in sizes.items()}
    load_tensors(checkpoint, moments)
    return moments, checkpoint.step + checkpoint.state.moment_steps


def _stored_moments(source: OpenModel, recipe: Recipe) -> tuple[Checkpoint, dict[str, tuple[int, ...]]]:
    """The checkpoint that holds the moments that the recipe keeps, and their sizes."""
    checkpoint = source.checkpoint
    if checkpoint is None or not checkpoint.state.has_moments:
        raise ModelError(
            f"{source.origin}: holds no optimizer moments, but the recipe says start.moments: kept; set it to "
            "fresh, or start from a checkpoint of a family"
        )
    shapes = parameter_shapes(recipe.model)
    moments = {
        f"{moment}.{name}": size for name, size in shapes.items() for moment in recipe.optimizer.state_names(name)
    }
    if missing := moments.keys() - stored_sizes(checkpoint).keys():
        raise ModelError(
            f"{source.origin}: holds no {min(missing)}, because another kind of optimizer trained it; set "
            "optimizer.kind to that kind, or start.moments: fresh"
        )
    return checkpoint, moments


def _compare(checkpoint: Checkpoint, tensors: dict[str, Tensor]) -> None:
    weights = CheckpointWeights(checkpoint)
    for name in weights:
        if not torch.equal(weights[name], tensors[f"{WEIGHT}{name}"]):
            raise CheckpointError(
                f"{checkpoint.folder}: {name} differs from what was written; delete the folder and import again, on "
                "another disk if that does not help"
            )
