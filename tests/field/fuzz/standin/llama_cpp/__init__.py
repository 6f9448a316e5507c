"""Stands in for llama-cpp-python: a model with the vocabulary of its GGUF file, whose logits depend on the last id."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

from gguf import GGUFReader

GGML_TYPE_F32, GGML_TYPE_F16 = 0, 1


class Llama:
    """The part of the class that `serve` uses."""

    def __init__(self, model_path: str, **_settings: object) -> None:
        """Read the vocabulary of a GGUF file."""
        tokens = GGUFReader(model_path).fields["tokenizer.ggml.tokens"]
        self.pieces = [bytes(tokens.parts[index]) for index in tokens.data]
        self.model = self.ctx = self
        self.last: list[int] = []

    def tokenize(self, text: bytes, *, add_bos: bool, special: bool) -> list[int]:
        """An id for every byte."""
        del add_bos, special
        return [3 + byte for byte in text]

    def close(self) -> None:
        """There is nothing to free."""


def llama_supports_gpu_offload() -> bool:
    """No GPU."""
    return False


def llama_model_get_vocab(model: Llama) -> Llama:
    """The model is its vocabulary."""
    return model


def llama_vocab_n_tokens(vocab: Llama) -> int:
    """Number of pieces."""
    return len(vocab.pieces)


def llama_vocab_is_eog(_vocab: Llama, token: int) -> bool:
    """EOS alone."""
    return token == 2


def llama_batch_init(size: int, _embeddings: int, _sequences: int) -> Any:  # noqa: ANN401  # a C structure
    """Arrays of a batch."""
    fields = {name: [0] * size for name in ("token", "pos", "n_seq_id", "logits")}
    return SimpleNamespace(n_tokens=0, seq_id=[[0] for _ in range(size)], **fields)


def llama_batch_free(_batch: object) -> None:
    """There is nothing to free."""


def llama_get_memory(context: Llama) -> Llama:
    """The model is its memory."""
    return context


def llama_memory_seq_rm(_memory: Llama, _sequence: int, _first: int, _end: int) -> bool:
    """There is nothing to forget."""
    return True


def llama_decode(context: Llama, batch: Any) -> int:  # noqa: ANN401  # a C structure
    """Keep the ids."""
    context.last = batch.token[: batch.n_tokens]
    return 0


def llama_get_logits_ith(context: Llama, index: int) -> Any:  # noqa: ANN401  # a C pointer
    """Logits that prefer an id which depends on the one before it."""
    size = len(context.pieces)
    favorite = (context.last[index] * 7 + 5) % size
    return (ctypes.c_float * size)(*(5.0 if token == favorite else 0.0 for token in range(size)))


def llama_token_to_piece(vocab: Llama, token: int, buffer: Any, size: int, _strip: int, _special: bool) -> int:  # noqa: ANN401, FBT001  # as the C function takes them
    """Write what a token spells, or return minus its length."""
    piece = vocab.pieces[token]
    if len(piece) > size:
        return -len(piece)
    buffer[: len(piece)] = piece
    return len(piece)
