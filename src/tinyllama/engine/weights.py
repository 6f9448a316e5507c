"""A model out of a checkpoint, without its moments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tinyllama.engine.checkpoint import Checkpoint, latest, load_tensors
from tinyllama.errors import ModelError
from tinyllama.model import Llama
from tinyllama.recipe import load_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.recipe import ModelShape


def load_model(checkpoint: Checkpoint, shape: ModelShape, dtype: torch.dtype = torch.float32) -> Llama:
    """The checkpoint's weights as a model in evaluation, rounded to `dtype`.

    Raises:
        CheckpointError: the checkpoint holds another shape.
    """
    with torch.device("meta"):
        model = Llama(shape)
    model.to_empty(device="cpu")
    if shape.tied_embeddings:
        model.lm_head.weight = model.embed_tokens.weight
    load_tensors(checkpoint, {f"model.{name}": weight.data for name, weight in model.named_parameters()})
    return model.to(dtype).eval().requires_grad_(requires_grad=False)


def newest_checkpoint(run: Path) -> Checkpoint:
    """The newest good checkpoint of a run's folder.

    Raises:
        ModelError: there is none.
    """
    for found in latest(run / "checkpoints"):
        if isinstance(found, Checkpoint):
            return found
    raise ModelError(f"{run}: no good checkpoint is here; train the run first")


def load_run(run: Path) -> Llama:
    """The newest weights of a run inside its family's folder (`runs/<recipe>/<variant>`).

    Raises:
        ModelError: the folder is no run of a family, or has no good checkpoint.
    """
    recipe_file = run.parent / "recipe.yaml"
    if not recipe_file.is_file():
        raise ModelError(f"{run}: neither a model folder (config.json) nor a run of a family ({recipe_file})")
    return load_model(newest_checkpoint(run), load_recipe(str(recipe_file)).model)
