"""The one resolver of "a model": what every command and function that takes a model accepts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tinyllama.checkpoint.format import STATE, verify
from tinyllama.checkpoint.store import checkpoint_store
from tinyllama.checkpoint.weights import newest_checkpoint
from tinyllama.errors import ModelError
from tinyllama.formats.gguf.file import is_gguf, parts_of
from tinyllama.formats.huggingface.config import CONFIG
from tinyllama.formats.model_source import CheckpointModel, GgufModel, HuggingFaceModel
from tinyllama.hub import HUB_ID, fetch_model
from tinyllama.layout import BASE, FamilyLayout, family_of_run
from tinyllama.paths import expand_path, refuse_not_utf8
from tinyllama.recipe import load_recipe, shipped_recipes

if TYPE_CHECKING:
    from tinyllama.formats.model_source import OpenModel

_KINDS = (
    f"a Hugging Face folder (with {CONFIG}) or hub id, a GGUF file or a folder with one, a checkpoint "
    "…/checkpoints/step-<n>, or a trained model's folder runs/<family>/<model>"
)


def open_model(name: str | Path) -> OpenModel:
    """Find a model and open it; its weights are read later.

    Args:
        name: a Hugging Face folder, such as an export; a GGUF file, or a folder with one; a checkpoint; the folder of
            a trained model, `runs/<family>/<model>`, whose newest good checkpoint is opened, or of a family that has
            one model alone; or an id of the hub.

    Raises:
        ModelError: there is no model, it is damaged, or its architecture is not supported; or `name` is a family of
            models, or a folder with several GGUF files.
        CheckpointError: it is a checkpoint of ours that is damaged.
    """
    path, named = expand_path(name), str(name)
    if path.name in {"", ".."}:
        path = path.resolve()
    if is_gguf(path):
        return GgufModel(path, named)
    if (path / CONFIG).is_file():
        refuse_not_utf8(path)  # safetensors opens no such path
        return HuggingFaceModel(path, named)
    if (path / STATE).is_file():
        return _open_checkpoint(path, path.absolute().parent.parent, named)
    if files := sorted(file for file in path.glob("*.gguf") if is_gguf(file)):
        if files != parts_of(files[0]):
            raise ModelError(f"{path}: holds {len(files)} GGUF files; name one: {', '.join(map(str, files))}")
        return GgufModel(files[0], named)
    path = _only_model(path, named)
    if _is_trained(path):
        return _open_checkpoint(None, path, named)
    if not path.exists() and HUB_ID.fullmatch(named):
        return HuggingFaceModel(fetch_model(named), named)
    raise ModelError(f"{named}: no model is here; give {_KINDS}")


def _is_trained(path: Path) -> bool:
    """Whether a path is the folder of one of a family's models; its checkpoints may be under a URL alone."""
    family, model = family_of_run(path.absolute()), path.name
    if not family.recipe.is_file():
        return False
    return family.checkpoints(model).is_dir() or model in load_recipe(str(family.recipe)).models


def _open_checkpoint(folder: Path | None, trained: Path, origin: str) -> CheckpointModel:
    """Open a checkpoint, or the newest good one, of a model whose training has the folder `trained`."""
    family = family_of_run(trained)
    if not family.recipe.is_file():
        raise ModelError(
            f"{origin}: the checkpoint is not inside its family's folder ({family.recipe} is missing); copy the "
            "whole family's folder"
        )
    recipe = load_recipe(str(family.recipe))
    if folder is None:
        checkpoint = newest_checkpoint(checkpoint_store(recipe, family.root, trained.name))
    else:
        checkpoint = verify(folder)
    return CheckpointModel(checkpoint, recipe, trained.name, family, origin)


def _only_model(path: Path, named: str) -> Path:
    """The folder of the only model of a family or recipe; another path as it is.

    Raises:
        ModelError: the family or recipe stands for several models, or its only one is not trained.
    """
    family = FamilyLayout(path)
    if family.recipe.is_file():
        recipe, what = load_recipe(str(family.recipe)), "a family"
    elif named in shipped_recipes() or (path.suffix in {".yaml", ".yml"} and path.is_file()):
        recipe, what = load_recipe(named), "a recipe"
        family = FamilyLayout(Path("runs") / recipe.name)
    else:
        return path
    models = recipe.models
    if len(models) == 1 and family.checkpoints(BASE).is_dir():
        return family.model(BASE)
    if trained := [str(family.model(model)) for model in models if family.checkpoints(model).is_dir()]:
        remedy = f"name one: {', '.join(trained)}"
    else:
        remedy = f"train it (`tinyllama train {recipe.name}`), then name one, e.g. {family.model(BASE)}"
    raise ModelError(f"{named} is {what} of {len(models)} models; {remedy}")
