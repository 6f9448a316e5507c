"""The trained models of a family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.checkpoint.format import MANIFEST
from tinyllama.checkpoint.store import checkpoint_store
from tinyllama.checkpoint.weights import newest_checkpoint
from tinyllama.errors import ModelError
from tinyllama.files import sha256_file

if TYPE_CHECKING:
    from tinyllama.checkpoint.format import Checkpoint
    from tinyllama.family.workspace import Workspace


def finished(work: Workspace) -> dict[str, Checkpoint]:
    """The last checkpoint of every trained model.

    Raises:
        ModelError: no model has a checkpoint.
    """
    stores = {model: checkpoint_store(work.recipe, work.layout.root, model) for model in work.models}
    trained = [model for model in work.models if stores[model].steps()]
    if not trained:
        name = work.recipe.name
        raise ModelError(f"no model of {name} is trained in {work.layout.root}; run `tinyllama train {name}`")
    return {model: newest_checkpoint(stores[model]) for model in trained}


def identity(checkpoint: Checkpoint) -> str:
    """SHA-256 of a checkpoint's manifest, which holds the hashes of its files."""
    return sha256_file(checkpoint.folder / MANIFEST)
