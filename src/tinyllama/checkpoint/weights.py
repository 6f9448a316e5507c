"""A model from a checkpoint, without its moments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tinyllama.checkpoint.format import WEIGHT, Checkpoint, load_tensors, stored_sizes
from tinyllama.errors import ModelError
from tinyllama.model.stored_weights import StoredWeights, build_model, check_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from tinyllama.checkpoint.store import CheckpointStore
    from tinyllama.model import Llama
    from tinyllama.recipe import ModelShape


class CheckpointWeights(StoredWeights):
    """The weights of a checkpoint, or their running average, without its moments."""

    def __init__(self, checkpoint: Checkpoint, prefix: str = WEIGHT) -> None:
        """Read which tensors there are; the checkpoint's files were verified when it was opened."""
        self._checkpoint, self._prefix = checkpoint, prefix
        self._sizes = {
            name.removeprefix(prefix): size
            for name, size in stored_sizes(checkpoint).items()
            if name.startswith(prefix)
        }

    def __getitem__(self, name: str) -> Tensor:
        tensor = torch.empty(self._sizes[name])
        load_tensors(self._checkpoint, {f"{self._prefix}{name}": tensor})
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._sizes)

    def __len__(self) -> int:
        return len(self._sizes)

    def size_of(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, from the checkpoint's index."""
        return self._sizes[name]


def load_model(checkpoint: Checkpoint, shape: ModelShape, dtype: torch.dtype = torch.float32) -> Llama:
    """The checkpoint's weights as a model in evaluation, rounded to `dtype`.

    Raises:
        ModelError: the checkpoint holds another shape.
    """
    weights = CheckpointWeights(checkpoint)
    check_weights(weights, shape, str(checkpoint.folder), "the recipe's model")
    return build_model(shape, weights, dtype)


def newest_checkpoint(store: CheckpointStore) -> Checkpoint:
    """The newest good checkpoint of a run.

    Raises:
        ModelError: there is none.
        StorageError: the URL for checkpoints cannot be reached.
    """
    for found in store.newest():
        if isinstance(found, Checkpoint):
            return found
    raise ModelError(f"{store.folder.parent}: no good checkpoint is here; train the run first")
