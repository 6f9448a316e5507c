"""A model as one GGUF file, written tensor by tensor."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tinyllama.errors import ExportError
from tinyllama.formats.gguf.rope import ROPE_FACTORS, rope_factors, scaling_metadata
from tinyllama.formats.gguf.tensors import gguf_name, to_gguf_rows
from tinyllama.formats.gguf.vocabulary import add_vocabulary
from tinyllama.installation import install_hint
from tinyllama.model.stored_weights import parameter_shapes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gguf import GGMLQuantizationType, GGUFWriter
    from torch import Tensor

    from tinyllama.recipe import ModelShape
    from tinyllama.tokenizer.base import Tokenizer

FILE_TYPES = {"F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7}
"""How matrices may be stored → llama.cpp's number for such a file. Norms are always F32."""

_Q8_BLOCK = 32


@dataclass(frozen=True)
class ModelInfo:
    """What a GGUF file states about its model."""

    name: str
    license: str


def write_gguf(  # noqa: PLR0913, PLR0917  # the parts of a GGUF file
    weights: Mapping[str, Tensor], shape: ModelShape, tokenizer: Tokenizer, path: Path, kind: str, about: ModelInfo
) -> None:
    """Write a GGUF file that llama.cpp and what is built on it run.

    Rows of Q8_0 hold whole blocks of 32; a matrix whose rows do not is stored as F16, as llama.cpp's own tool does.

    Args:
        weights: by our names; one tensor is taken at a time.
        shape: the model's.
        tokenizer: the model's.
        path: the file.
        kind: type of the matrices, a key of `FILE_TYPES`.
        about: name and license, for the metadata.

    Raises:
        ExportError: the `gguf` package is not installed, or the format has no words for the RoPE scaling.
        CorpusError: the tokenizer is of a kind that llama.cpp does not know.
    """
    try:
        from gguf import GGUFWriter, quant_shape_to_byte_shape, quantize  # an extra
    except ImportError:
        raise ExportError(f"writing GGUF needs an extra: {install_hint('gguf')}") from None

    sizes = parameter_shapes(shape)
    types = {name: _type_of(size, kind) for name, size in sizes.items()}
    with closing(GGUFWriter(path, "llama")) as writer:
        _add_metadata(writer, shape, kind, about)
        add_vocabulary(writer, tokenizer, shape.vocab_size)
        factors = rope_factors(shape)
        if factors is not None:
            writer.add_tensor_info(ROPE_FACTORS, factors.shape, factors.dtype, factors.nbytes)
        for name, size in sizes.items():
            stored = quant_shape_to_byte_shape(size, types[name])
            writer.add_tensor_info(gguf_name(name), stored, np.dtype(np.uint8), int(np.prod(stored)), types[name])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        if factors is not None:
            writer.write_tensor_data(factors)
        for name in sizes:
            rows = to_gguf_rows(name, weights[name].detach().float().cpu(), shape).contiguous().numpy()
            writer.write_tensor_data(quantize(rows, types[name]))


def _type_of(size: tuple[int, ...], kind: str) -> GGMLQuantizationType:
    from gguf import GGMLQuantizationType  # an extra

    if len(size) == 1:
        return GGMLQuantizationType.F32
    if kind == "Q8_0" and size[-1] % _Q8_BLOCK:
        return GGMLQuantizationType.F16
    return GGMLQuantizationType[kind]


def _add_metadata(writer: GGUFWriter, shape: ModelShape, kind: str, about: ModelInfo) -> None:
    metadata: dict[str, str | int | float] = {
        "type": "model",
        "name": about.name,
        "license": about.license,
        "file_type": FILE_TYPES[kind],
        "vocab_size": shape.vocab_size,
        "context_length": shape.context,
        "embedding_length": shape.width,
        "block_count": shape.layers,
        "feed_forward_length": shape.ffn,
        "head_count": shape.heads,
        "head_count_kv": shape.kv_heads,
        "rope_dimension_count": shape.head_size,
        "rope_freq_base": shape.rope_theta,
        "layer_norm_rms_eps": shape.norm_eps,
        "quantization_version": 2,
    }
    if shape.head_dim is not None:
        metadata |= {"key_length": shape.head_dim, "value_length": shape.head_dim}
    for key, value in (metadata | scaling_metadata(shape)).items():
        getattr(writer, f"add_{key}")(value)
