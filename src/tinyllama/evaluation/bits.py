"""Held-out losses: in nats per target during training, in bits per byte of text afterwards."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tinyllama.corpus.documents import DocumentIndex
from tinyllama.corpus.manifest import HELD_OUT
from tinyllama.corpus.rows import IGNORED
from tinyllama.corpus.source_parts import held_out_parts
from tinyllama.errors import EvaluationError
from tinyllama.evaluation.record import SourceBits, TextBits
from tinyllama.model import document_mask
from tinyllama.model.packed import products_with
from tinyllama.sampler import Permutation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from tinyllama.corpus.manifest import PreparedCorpus, Separator
    from tinyllama.corpus.source_parts import SourcePart
    from tinyllama.model import Llama
    from tinyllama.tokenizer.base import Tokenizer

Row = tuple["NDArray[np.int64]", "NDArray[np.int64]"]
"""Inputs and targets [T] of one row."""


class Texts(NamedTuple):
    """What bits per byte of any model are measured on."""

    documents: Iterable[tuple[str, int]]
    """Each with its UTF-8 bytes, which a text that a tokenizer has normalized does not tell any more."""
    parts: Sequence[SourcePart] = ()
    """Which of them came from which source."""


_BATCH_TOKENS = 4096
_PIECE, _MOST_PIECES = 256, 200
"""Fewest bytes of a piece of text, and most pieces of a text: what a comparison of two models resamples."""
_LOGITS = {"cpu": 128, "cuda": 4096}
"""Rows of logits held at a time: few enough that memory is reused, and that a CPU's cache holds them."""


def held_out_losses(
    model: Llama, corpora: Mapping[str, PreparedCorpus], *, rows: int, document_masking: bool
) -> dict[str, float]:
    """Mean loss per target, in nats, on a fixed sample of each corpus's held-out rows.

    Args:
        model: as it is (its own precision).
        corpora: to measure on.
        rows: how many rows of each (all, if it has fewer).
        document_masking: as in training.
    """
    losses = {}
    for name, corpus in corpora.items():
        held_out = corpus.rows(HELD_OUT, model.shape.context)
        chosen = Permutation(len(held_out), f"held-out/{name}")(np.arange(min(rows, len(held_out))))
        separator = corpus.separator if document_masking else None
        total, each = _losses(model, map(held_out.row, sorted(chosen.tolist())), separator)
        losses[name] = total / len(each)
    return losses


def bits_of_corpora(
    model: Llama, corpora: Mapping[str, PreparedCorpus], *, document_masking: bool
) -> dict[str, TextBits]:
    """-Σ log2 p(target) over all held-out targets, EOS included, by the UTF-8 bytes of their text.

    Windows are rows: as long as the model's context, with the context as stride.
    """
    result = {}
    for name, corpus in corpora.items():
        held_out = corpus.rows(HELD_OUT, model.shape.context)
        separator = corpus.separator if document_masking else None
        losses = _losses(model, map(held_out.row, range(len(held_out))), separator)
        result[name] = _by_piece(*losses, *DocumentIndex(corpus, HELD_OUT).sizes(), held_out_parts(corpus))
    return result


def bits_of_texts(model: Llama, tokenizer: Tokenizer, texts: Texts, *, bos: bool, window: int) -> TextBits:
    """The same measure for any tokenizer: -Σ log2 p over the tokens of all texts, by their UTF-8 bytes.

    Texts are tokenized one by one and concatenated, each as BOS + ids + EOS; all tokens but the first are
    targets, EOS included. Models with different tokenizers are comparable, since the bytes are the same for all.

    Args:
        model: as it is (its own precision).
        tokenizer: the model's own.
        texts: of at least one token together.
        bos: whether the model expects BOS before a text.
        window: tokens seen at once, and the stride; at most the model's context.

    Raises:
        EvaluationError: there is no text.
    """
    stream, starts, sizes = list[int](), list[int](), list[int]()
    for text, size in texts.documents:
        starts.append(len(stream))
        sizes.append(size)
        stream += [tokenizer.bos_id] * bos + tokenizer.encode([text])[0] + [tokenizer.eos_id]
    if not sum(sizes):
        raise EvaluationError("bits per byte need at least one text that is not empty; give another file or corpus")
    window = min(window, model.shape.context, len(stream) - 1)
    ids = np.asarray(stream)
    rows = (_window(ids, start, window) for start in range(0, len(ids) - 1, window))
    return _by_piece(*_losses(model, rows, None), np.asarray(starts), np.asarray(sizes), texts.parts)


def _window(ids: NDArray[np.int64], start: int, window: int) -> Row:
    """Inputs and targets of one window; the last one is a full one, of which only the new targets count."""
    begin = min(start, len(ids) - 1 - window)
    targets = ids[begin + 1 : begin + 1 + window].copy()
    targets[: start - begin] = IGNORED
    return ids[begin : begin + window], targets


def _by_piece(
    nats: float, losses: Tensor, starts: NDArray[np.int64], sizes: NDArray[np.int64], parts: Sequence[SourcePart]
) -> TextBits:
    """Sum losses over pieces of a text that are of equal size in bytes, and over its sources.

    Where a token ends in its document is estimated by its share of the document's tokens, so that the pieces of models
    with different tokenizers are nearly the same text.

    Args:
        nats: of the whole text.
        losses: in nats, of the tokens 1, 2, … of the stream.
        starts: first token of each document.
        sizes: bytes of each document.
        parts: which documents came from which source.
    """
    total = int(sizes.sum())
    pieces = min(max(1, total // _PIECE), _MOST_PIECES)
    bounds = np.append(starts, len(losses) + 1), np.append(0, np.cumsum(sizes))
    middles = np.interp(np.arange(1, len(losses) + 1) + 0.5, *bounds)  # bytes before the middle of each token
    piece = np.minimum((middles * pieces / total).astype(np.int64), pieces - 1)
    exact = losses.double().numpy()
    bits = np.bincount(piece, exact, pieces) / math.log(2)
    sources = {}
    for name, documents in parts:
        first, end = (max(0, int(bounds[0][number]) - 1) for number in (documents.start, documents.stop))
        size = int(sizes[documents.start : documents.stop].sum())
        sources[name] = SourceBits(size, float(exact[first:end].sum()) / math.log(2))
    return TextBits(total, nats / math.log(2), bits.tolist(), sources)


@torch.no_grad()
def _losses(model: Llama, rows: Iterable[Row], separator: Separator | None) -> tuple[float, Tensor]:
    """Losses in nats of rows of one length: summed over all targets, and of each target in order [targets]."""
    sums, each, predicted = list[Tensor](), list[Tensor](), list[Tensor]()
    device, rows = model.embed_tokens.weight.device, iter(rows)
    rows_held = _LOGITS.get(device.type, _LOGITS["cuda"])
    size = max(1, _BATCH_TOKENS // model.shape.context)
    while batch := list(islice(rows, size)):
        inputs = torch.from_numpy(np.stack([row[0] for row in batch])).to(device)
        wanted = torch.from_numpy(np.stack([row[1] for row in batch]).ravel())
        targets = wanted.to(device)
        hidden = model.hidden(inputs, None if separator is None else document_mask(inputs, separator)).flatten(0, 1)
        head = products_with(model.lm_head.weight, rows_held)  # ranks that shard the model have it whole only here
        for at in range(0, len(hidden), rows_held):
            likelihoods = head(hidden[at : at + rows_held]).float().log_softmax(-1)
            part = targets[at : at + rows_held]
            sums.append(functional.nll_loss(likelihoods, part, ignore_index=IGNORED, reduction="sum"))
            each.append(functional.nll_loss(likelihoods, part, ignore_index=IGNORED, reduction="none"))
        predicted.append(wanted != IGNORED)
    # Read at the end, so that the host does not wait for each.
    return sum(torch.stack(sums).tolist()), torch.cat(each).cpu()[torch.cat(predicted)]
