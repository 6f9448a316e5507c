"""Weights as mappings from our names to tensors, each read when it is asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tinyllama.errors import ModelError
from tinyllama.model.llama import Llama

if TYPE_CHECKING:
    from tinyllama.recipe import ModelShape

HEAD, EMBEDDING = "lm_head.weight", "embed_tokens.weight"


class StoredWeights(Mapping[str, Tensor]):
    """Weights on disk under our names (`embed_tokens.weight`, `layers.0.mlp.up_proj.weight`, …).

    `weights[name]` reads one tensor, in the precision it is stored in; nothing else is held in memory. A tied head
    is not among them, as in `Llama.named_parameters`.
    """

    @abstractmethod
    def size_of(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""

    def spelling(self, name: str) -> str:
        """The name that a tensor has in the file, for errors."""
        return name


def parameter_shapes(shape: ModelShape) -> dict[str, tuple[int, ...]]:
    """Name → size of every parameter, in the model's order."""
    with torch.device("meta"):
        return {name: tuple(weight.shape) for name, weight in Llama(shape).named_parameters()}


def check_weights(weights: StoredWeights, shape: ModelShape, where: str, asked_by: str) -> None:
    """Refuse tensors that are missing, unexpected or of another size than the shape says.

    Args:
        weights: what is stored.
        shape: what must be there.
        where: names the weights in the error.
        asked_by: names what states the shape, e.g. `config.json`.

    Raises:
        ModelError: they do not fit; names the first tensors.
    """
    expected = parameter_shapes(shape)
    missing, unexpected = expected.keys() - weights.keys(), weights.keys() - expected.keys()
    for problem, names in (("are missing", missing), ("are unexpected", unexpected)):
        if names:
            listed = ", ".join(sorted(map(weights.spelling, names))[:3])
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise ModelError(f"{where}: tensors {problem}: {listed}{more}; {asked_by} asks for others")
    for name, size in expected.items():
        if weights.size_of(name) != size:
            raise ModelError(
                f"{where}: {weights.spelling(name)} has shape {weights.size_of(name)}, but {asked_by} asks for {size}"
            )


def build_model(shape: ModelShape, weights: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> Llama:
    """A model in evaluation with these weights, converted to `dtype`."""
    with torch.device("meta"):
        model = Llama(shape)
    held = {name: weights[name].to(dtype) for name, _ in model.named_parameters()}
    if shape.tied_embeddings:
        held[HEAD] = held[EMBEDDING]
    # assign=True keeps what was read instead of copying it; a tie has to be made again after it.
    model.load_state_dict(held, assign=True)
    if shape.tied_embeddings:
        model.lm_head.weight = model.embed_tokens.weight
    return model.eval().requires_grad_(requires_grad=False)
