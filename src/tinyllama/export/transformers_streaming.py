"""transformers' Llama over files that are too large to load: each module reads its tensors when it is called."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open

from tinyllama.formats.gguf.file import parts_of
from tinyllama.formats.huggingface.tensors import INDEX, WEIGHTS
from tinyllama.model.streaming import stream_parameters

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from tinyllama.formats.huggingface.tensors import JsonObject

_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def stream_folder(folder: Path) -> Any:  # noqa: ANN401  # a model of transformers
    """The model that transformers builds from `config.json`, reading safetensors by its own names."""
    from transformers import AutoConfig  # takes seconds

    index = folder / INDEX
    file_of = json.loads(index.read_text(encoding="utf-8"))["weight_map"] if index.is_file() else {}

    def read(name: str) -> Tensor:
        with safe_open(folder / file_of.get(name, WEIGHTS), framework="pt") as file:
            tensor: Tensor = file.get_tensor(name).float()
        return tensor

    return _streamed(AutoConfig.from_pretrained(folder), read)


def stream_gguf(path: Path, rope: JsonObject) -> Any:  # noqa: ANN401  # a model of transformers
    """The model that transformers builds from a GGUF file's metadata, with its own names and row order.

    Args:
        path: the file.
        rope: `rope_parameters` of the model, since transformers reads RoPE's base alone from the metadata.
    """
    from gguf import GGUFReader, dequantize  # an extra
    from transformers import AutoConfig  # takes seconds
    from transformers.modeling_gguf_pytorch_utils import (
        LlamaTensorProcessor,
        get_gguf_hf_weights_map,
    )

    config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    stored = {tensor.name: tensor for part in parts_of(path) for tensor in GGUFReader(part).tensors}
    config.rope_parameters = rope
    config.tie_word_embeddings = "output.weight" not in stored  # transformers looks into the first part alone
    processor: Any = LlamaTensorProcessor(config=config.to_dict())  # type: ignore[no-untyped-call]  # not typed there
    names: dict[str, str] = {}

    def read(name: str) -> Tensor:
        tensor = stored[names[name]]
        weights = processor.process(weights=dequantize(tensor.data, tensor.tensor_type), name=tensor.name).weights
        return torch.tensor(weights, dtype=torch.float32)

    model = _streamed(config, read)
    names |= {theirs: name for name, theirs in get_gguf_hf_weights_map(model, processor).items()}
    return model


def _streamed(config: Any, read: Callable[[str], Tensor]) -> Any:  # noqa: ANN401  # a config and model of transformers
    from transformers import AutoModelForCausalLM  # takes seconds

    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
        model.eval()
    # Its one buffer is computed from the config, not stored; on the meta device it was not.
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    tied = config.tie_word_embeddings
    stream_parameters(model, lambda name: read(_EMBEDDING if tied and name == _HEAD else name))
    return model
