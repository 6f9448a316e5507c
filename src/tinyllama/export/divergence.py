"""How far a quantized model is from the model in F32, on held-out text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from tinyllama.errors import ExportError
from tinyllama.formats.gguf.quantizer import load_llama_cpp
from tinyllama.processors import available_cores
from tinyllama.sources.documents import utf8_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from tinyllama.model import Llama
    from tinyllama.tokenizer.base import Tokenizer

WINDOW = 512
"""Tokens that a model sees at once; fewer where its context is shorter. llama.cpp's own measure uses as many."""
CHARACTERS = 16_384
"""Of text to measure on: about 4,000 tokens of English."""
LEAST_TOKENS = 256
"""Fewer tokens are no sample."""
_PADDING = -100
"""What `cross_entropy` ignores."""


@dataclass(frozen=True)
class Windows:
    """Text as a model reads it: rows of T tokens, the last one padded at its end."""

    tokens: Tensor
    """[N, T]."""
    targets: Tensor
    """[N, T]: the token after each; -100 in the padding."""
    bytes: int
    """Of the text."""

    @property
    def count(self) -> int:
        """Targets that are not padding."""
        return int((self.targets != _PADDING).sum())


def split_text(texts: Mapping[str, Iterable[tuple[str, int]]], *sizes: int) -> list[list[tuple[str, int]]]:
    """Cut consecutive pieces of text of at most `sizes` characters, in which every text has an equal share.

    Args:
        texts: name of a text → its documents, each with its size in bytes of UTF-8.
        sizes: of the pieces.

    Returns:
        The documents of each piece; a document that is longer than what is left is cut.
    """
    pieces: list[list[tuple[str, int]]] = [[] for _ in sizes]
    for documents in texts.values():
        rest = iter(documents)
        text, size = "", 0
        for piece, characters in zip(pieces, sizes, strict=True):
            room = characters // len(texts)
            while room:
                if not text:
                    text, size = next(rest, ("", 0))
                if not text:
                    break
                head, text = text[:room], text[room:]
                piece.append((head, utf8_bytes(head) if text else size))
                room, size = room - len(head), utf8_bytes(text)
    return pieces


def windows_of(documents: Sequence[tuple[str, int]], tokenizer: Tokenizer, *, bos: bool, context: int) -> Windows:
    """Tokenize documents, and cut their concatenation into windows.

    Args:
        documents: each with its size in bytes of UTF-8.
        tokenizer: the model's.
        bos: whether the model expects BOS before a text.
        context: the model's.

    Raises:
        ExportError: there is too little text.
    """
    stream: list[int] = []
    for ids in tokenizer.encode([text for text, _ in documents]):
        stream += [tokenizer.bos_id] * bos + ids + [tokenizer.eos_id]
    count, length = len(stream) - 1, min(WINDOW, context)
    if count < LEAST_TOKENS:
        raise ExportError(
            f"the held-out text has {max(count, 0)} tokens, but at least {LEAST_TOKENS} are needed; give a longer one"
        )
    rows = -(-count // length)
    tokens, targets = torch.zeros(rows * length, dtype=torch.long), torch.full((rows * length,), _PADDING)
    tokens[:count], targets[:count] = torch.tensor(stream[:-1]), torch.tensor(stream[1:])
    return Windows(tokens.view(rows, length), targets.view(rows, length), sum(size for _, size in documents))


@dataclass(frozen=True)
class Divergence:
    """A quantized model beside the one in F32; sums over all tokens, in nats."""

    kl: float
    """Of the F32 model's distributions from the quantized model's."""
    loss: float
    """The quantized model's."""
    reference_loss: float
    """The F32 model's."""

    def __add__(self, other: Divergence) -> Divergence:
        """Sums over both texts."""
        losses = self.loss + other.loss, self.reference_loss + other.reference_loss
        return Divergence(self.kl + other.kl, *losses)


def compare_logits(reference: Tensor, logits: Tensor, targets: Tensor) -> Divergence:
    """KL(reference || logits) = Σ p (log p - log q), and both losses.

    Args:
        reference: the F32 model's, [T, V].
        logits: the quantized model's, [T, V].
        targets: [T].
    """
    log_p, log_q = reference.float().log_softmax(-1), logits.float().log_softmax(-1)
    return Divergence(
        kl=float(functional.kl_div(log_q, log_p, log_target=True, reduction="sum")),
        loss=float(functional.nll_loss(log_q, targets, reduction="sum")),
        reference_loss=float(functional.nll_loss(log_p, targets, reduction="sum")),
    )


@torch.no_grad()
def measure(model: Llama, path: Path, windows: Windows) -> Divergence:
    """Compare the F32 model with the GGUF file, which llama.cpp runs on the CPU.

    Args:
        model: ours, in F32.
        path: the file.
        windows: of text.
    """
    states = model.hidden(windows.tokens)
    kept = [int((row != _PADDING).sum()) for row in windows.targets]
    rows = [row[:length] for row, length in zip(windows.tokens, kept, strict=True)]
    total = Divergence(0, 0, 0)
    for state, row, targets in zip(states, llama_cpp_logits(path, rows), windows.targets, strict=True):
        reference = model.lm_head(state[: len(row)])
        total += compare_logits(reference, row, targets[: len(row)])
    return total


def llama_cpp_logits(path: Path, rows: Sequence[Tensor]) -> Iterator[Tensor]:
    """The logits [T, V] that llama.cpp computes for each row of T ids."""
    llama_cpp = load_llama_cpp()
    length, threads = max(map(len, rows)), available_cores()
    model = llama_cpp.Llama(
        str(path), n_ctx=length, n_batch=length, n_ubatch=length, n_gpu_layers=0, logits_all=True, verbose=False,
        n_threads=threads, n_threads_batch=threads,
    )  # fmt: skip
    try:
        for row in rows:
            model.reset()
            model.eval(row.tolist())
            yield torch.from_numpy(model.scores[: len(row)])
    finally:
        model.close()
