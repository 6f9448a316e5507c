"""A GGUF file of a Llama model and our `Llama`: names and row order in both directions, its shape and its weights.

llama.cpp rotates neighboring pairs (2i, 2i + 1) of a head where transformers and we rotate (i, i + C/2), so the rows
of the query and key projections stand in another order in a GGUF file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import ValidationError

from tinyllama.errors import ModelError
from tinyllama.formats.gguf.rope import ROPE_FACTORS, with_rope_scaling
from tinyllama.model.stored_weights import EMBEDDING, HEAD, StoredWeights
from tinyllama.recipe import ModelShape
from tinyllama.record_files import first_problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

    from tinyllama.formats.gguf.file import GgufFile

_OUTSIDE = {EMBEDDING: "token_embd.weight", "norm.weight": "output_norm.weight", HEAD: "output.weight"}
_IN_BLOCK = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    """The name that llama.cpp gives one of our parameters."""
    if name in _OUTSIDE:
        return _OUTSIDE[name]
    _, layer, module = name.removesuffix(".weight").split(".", 2)
    return f"blk.{layer}.{_IN_BLOCK[module]}.weight"


def to_gguf_rows(name: str, tensor: Tensor, shape: ModelShape) -> Tensor:
    """Our rows of a query or key projection in llama.cpp's order; any other tensor as it is."""
    if (heads := _rotated_heads(name, shape)) is None:
        return tensor
    return tensor.reshape(heads, 2, -1, tensor.shape[1]).swapaxes(1, 2).reshape(tensor.shape)


def from_gguf_rows(name: str, tensor: Tensor, shape: ModelShape) -> Tensor:
    """The inverse of `to_gguf_rows`."""
    if (heads := _rotated_heads(name, shape)) is None:
        return tensor
    return tensor.reshape(heads, -1, 2, tensor.shape[1]).swapaxes(1, 2).reshape(tensor.shape)


def _rotated_heads(name: str, shape: ModelShape) -> int | None:
    if name.endswith("q_proj.weight"):
        return shape.heads
    return shape.kv_heads if name.endswith("k_proj.weight") else None


def shape_of_gguf(file: GgufFile) -> ModelShape:
    """The shape a GGUF file describes; what it leaves out has llama.cpp's default.

    Raises:
        ModelError: it describes something else than a plain Llama decoder.
    """
    _refuse_other_architectures(file)
    heads, width = file.require("llama.attention.head_count", int), file.require("llama.embedding_length", int)
    embedding = file.tensors.get(_OUTSIDE[EMBEDDING])
    if embedding is None or len(embedding.shape) != 2:
        raise ModelError(
            f"{file.path}: the tensor {_OUTSIDE[EMBEDDING]} is missing or no matrix; download the file again"
        )
    try:
        shape = ModelShape(
            layers=file.require("llama.block_count", int),
            width=width,
            ffn=file.require("llama.feed_forward_length", int),
            heads=heads,
            kv_heads=file.get("llama.attention.head_count_kv", int, heads),
            head_dim=file.get("llama.attention.key_length", int, None),
            context=file.require("llama.context_length", int),
            vocab_size=int(embedding.shape[1]),
            rope_theta=file.get("llama.rope.freq_base", float, 10000.0),
            norm_eps=file.require("llama.attention.layer_norm_rms_epsilon", float),
            tied_embeddings=_OUTSIDE[HEAD] not in file.tensors,
        )
    except ValidationError as error:
        raise ModelError(f"{file.path}: not a possible Llama shape: {first_problem(error)}") from error
    for key in ("llama.rope.dimension_count", "llama.attention.value_length"):
        if (stated := file.get(key, int, shape.head_size)) != shape.head_size:
            raise ModelError(
                f"{file.path}: {key} is {stated}; only the size of a head, {shape.head_size}, is supported"
            )
    return with_rope_scaling(file, shape)


def _refuse_other_architectures(file: GgufFile) -> None:
    architecture = file.require("general.architecture", str)
    if architecture != "llama":
        raise ModelError(f"{file.path}: the architecture is {architecture!r}; only 'llama' is supported")
    if file.get("llama.expert_count", int, 0):
        raise ModelError(f"{file.path}: is a mixture of experts; only dense models are supported")
    if biases := sorted(name for name in file.tensors if name.endswith(".bias")):
        raise ModelError(f"{file.path}: has biases ({biases[0]}, …); only models without are supported")


class GgufWeights(StoredWeights):
    """Tensors of a GGUF file in our row order, dequantized to fp32."""

    def __init__(self, file: GgufFile, shape: ModelShape) -> None:
        """Map the file's names to ours; those we do not know stay under their own."""
        ours = {gguf_name(name): name for name in _names(shape)}
        self._file, self.shape = file, shape
        self._stored = {ours.get(stored, stored): stored for stored in file.tensors if stored != ROPE_FACTORS}

    def __getitem__(self, name: str) -> Tensor:
        stored = self._file.tensors[self._stored[name]]
        tensor = torch.from_numpy(_dequantize(stored, self._file.path)).reshape(self.size_of(name))
        return from_gguf_rows(name, tensor, self.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def size_of(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor; GGUF lists sizes from the fastest on."""
        return tuple(int(size) for size in reversed(self._file.tensors[self._stored[name]].shape))

    def spelling(self, name: str) -> str:
        """The name that llama.cpp gives it."""
        return self._stored.get(name) or gguf_name(name)


def _names(shape: ModelShape) -> list[str]:
    blocks = [f"layers.{layer}.{module}.weight" for layer in range(shape.layers) for module in _IN_BLOCK]
    return [*_OUTSIDE, *blocks]


def _dequantize(stored: Any, path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:  # noqa: ANN401  # a ReaderTensor
    from gguf import dequantize  # an extra

    try:
        # A copy: what the file maps is read-only, and its pages would stay.
        return np.array(dequantize(stored.data, stored.tensor_type), dtype=np.float32)
    except NotImplementedError as error:
        kind = stored.tensor_type.name
        raise ModelError(
            f"{path}: {stored.name} is of type {kind}, which the gguf package cannot dequantize; "
            "get the model in another type, e.g. F16 or Q8_0"
        ) from error
