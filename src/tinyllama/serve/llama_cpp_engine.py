"""A GGUF file in llama.cpp, through llama-cpp-python's bindings of its C functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tinyllama.evaluation.scoring import common_prefix
from tinyllama.processors import available_cores

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_BATCH = 512
"""Ids of one pass; the logits of a pass are held at once."""


class LlamaCppEngine:
    """A model in llama.cpp's memory. Ids that a request shares with the one before it are not computed again.

    Args:
        path: the GGUF file.
        context: size of the cache in tokens.
        exact: keep the cache in F32 instead of F16, as suits F32 weights.
    """

    name = "llama.cpp"

    def __init__(self, path: Path, context: int, *, exact: bool) -> None:
        import llama_cpp  # an extra

        self._cpp = llama_cpp
        kind = llama_cpp.GGML_TYPE_F32 if exact else llama_cpp.GGML_TYPE_F16
        self._llama = llama_cpp.Llama(
            str(path), n_ctx=context, n_batch=_BATCH, n_ubatch=_BATCH, type_k=kind, type_v=kind, verbose=False,
            n_threads=available_cores(), n_threads_batch=available_cores(),
            n_gpu_layers=-1 if llama_cpp.llama_supports_gpu_offload() else 0,
        )  # fmt: skip
        self._vocab = llama_cpp.llama_model_get_vocab(self._llama.model)
        self._size: int = llama_cpp.llama_vocab_n_tokens(self._vocab)
        self._batch = llama_cpp.llama_batch_init(_BATCH, 0, 1)
        self._cached: list[int] = []
        self.ends = frozenset(i for i in range(self._size) if llama_cpp.llama_vocab_is_eog(self._vocab, i))

    def next_logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Logits [V] of the token after these ids."""
        (row,) = self._pass(ids, len(ids) - 1)
        last: NDArray[np.float32] = row[0]
        return last

    def prompt_logits(self, ids: Sequence[int], start: int) -> Iterator[NDArray[np.float32]]:
        """Logits [n, V] after each of `ids[start:]`, in batches of n."""
        return self._pass(ids, start)

    def _pass(self, ids: Sequence[int], start: int) -> Iterator[NDArray[np.float32]]:
        """Compute the ids that are not in the cache, and those from `start`; yields the logits after the latter."""
        known = min(common_prefix(self._cached, ids), start)
        memory = self._cpp.llama_get_memory(self._llama.ctx)
        self._cpp.llama_memory_seq_rm(memory, 0, known, -1)
        del self._cached[known:]
        for first in range(known, len(ids), _BATCH):
            chunk = ids[first : first + _BATCH]
            self._decode(chunk, first, start)
            self._cached += chunk
            if first + len(chunk) > start:
                yield np.stack([self._row(i) for i in range(max(start - first, 0), len(chunk))])

    def _decode(self, chunk: Sequence[int], first: int, start: int) -> None:
        batch = self._batch
        batch.n_tokens = len(chunk)
        for i, token in enumerate(chunk):
            batch.token[i], batch.pos[i] = token, first + i
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
            batch.logits[i] = first + i >= start
        if code := self._cpp.llama_decode(self._llama.ctx, batch):
            self._cached.clear()
            raise RuntimeError(f"llama_decode returned {code}")

    def _row(self, index: int) -> NDArray[np.float32]:
        row = self._cpp.llama_get_logits_ith(self._llama.ctx, index)
        logits: NDArray[np.float32] = np.ctypeslib.as_array(row, shape=(self._size,)).copy()
        return logits

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """What a token spells; with `special`, also the name of one that is not text."""
        return self._spelled(token, special, 64)

    def _spelled(self, token: int, special: bool, size: int) -> bytes:  # noqa: FBT001  # as the C function takes it
        from ctypes import create_string_buffer

        buffer: Any = create_string_buffer(size)
        length = self._cpp.llama_token_to_piece(self._vocab, token, buffer, size, 0, special)
        return buffer.raw[:length] if length >= 0 else self._spelled(token, special, -length)

    def encode_special(self, text: str) -> list[int]:
        """Ids of a text in which the spelling of a special token is that token, without BOS."""
        ids: list[int] = self._llama.tokenize(text.encode(), add_bos=False, special=True)
        return ids

    def close(self) -> None:
        """Free the model, its cache and the batch."""
        self._cpp.llama_batch_free(self._batch)
        self._llama.close()
