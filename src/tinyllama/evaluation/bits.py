"""Held-out losses: in nats per target during training, in bits per byte of text afterwards."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tinyllama.corpus.manifest import HELD_OUT
from tinyllama.corpus.rows import IGNORED
from tinyllama.errors import EvaluationError
from tinyllama.evaluation.scoring import Window, score_windows
from tinyllama.model import document_mask
from tinyllama.model.packed import products_with
from tinyllama.sampler import Permutation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tinyllama.corpus.manifest import PreparedCorpus, Separator
    from tinyllama.corpus.rows import Rows
    from tinyllama.model import Llama
    from tinyllama.tokenizer.base import Tokenizer

_BATCH_TOKENS = 4096
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
        total, targets = _sum_losses(model, held_out, sorted(chosen.tolist()), separator)
        losses[name] = total / targets
    return losses


def bits_per_byte(model: Llama, corpora: Mapping[str, PreparedCorpus], *, document_masking: bool) -> dict[str, float]:
    """-Σ log2 p(target) over all held-out targets, EOS included, by the UTF-8 bytes of their text.

    Windows are rows: as long as the model's context, with the context as stride.
    """
    result = {}
    for name, corpus in corpora.items():
        held_out = corpus.rows(HELD_OUT, model.shape.context)
        separator = corpus.separator if document_masking else None
        total, _ = _sum_losses(model, held_out, range(len(held_out)), separator)
        result[name] = total / math.log(2) / corpus.text_bytes(HELD_OUT)
    return result


def bits_per_byte_of_texts(
    model: Llama, tokenizer: Tokenizer, texts: Iterable[tuple[str, int]], *, bos: bool, window: int
) -> float:
    """The same measure for any tokenizer: -Σ log2 p over the tokens of all texts, by their UTF-8 bytes.

    Texts are tokenized one by one and concatenated, each as BOS + ids + EOS; all tokens but the first are
    targets, EOS included. Models with different tokenizers are comparable, since the bytes are the same for all.

    Args:
        model: as it is (its own precision).
        tokenizer: the model's own.
        texts: each with its UTF-8 bytes, which a text that a tokenizer has normalized does not tell any more; at least
            one token together.
        bos: whether the model expects BOS before a text.
        window: tokens seen at once, and the stride; at most the model's context.

    Raises:
        EvaluationError: there is no text.
    """
    stream, size = list[int](), 0
    for text, size_of_text in texts:
        stream += [tokenizer.bos_id] * bos + tokenizer.encode([text])[0] + [tokenizer.eos_id]
        size += size_of_text
    if not size:
        raise EvaluationError("bits per byte need at least one text that is not empty; give another file or corpus")
    window = min(window, model.shape.context)
    windows = []
    for start in range(0, len(stream) - 1, window):
        end = min(start + window, len(stream) - 1)
        begin = max(0, end - window)  # the last window is a full one; only its new targets count
        windows.append(Window(tuple(stream[begin:end]), tuple(stream[start + 1 : end + 1])))
    nats = -sum(total for scored in score_windows(model, windows) for _, (total, _) in scored)
    return nats / math.log(2) / size


@torch.no_grad()
def _sum_losses(model: Llama, rows: Rows, chosen: Sequence[int], separator: Separator | None) -> tuple[float, int]:
    """Summed loss in nats and number of targets of some rows."""
    parts, count, device = list[Tensor](), 0, model.embed_tokens.weight.device
    rows_held = _LOGITS.get(device.type, _LOGITS["cuda"])
    size = max(1, _BATCH_TOKENS // model.shape.context)
    for start in range(0, len(chosen), size):
        pairs = [rows.row(index) for index in chosen[start : start + size]]
        inputs = torch.from_numpy(np.stack([pair[0] for pair in pairs])).to(device)
        wanted = np.stack([pair[1] for pair in pairs]).ravel()
        targets = torch.from_numpy(wanted).to(device)
        hidden = model.hidden(inputs, None if separator is None else document_mask(inputs, separator)).flatten(0, 1)
        head = products_with(model.lm_head.weight, rows_held)  # ranks that shard the model have it whole only here
        for at in range(0, len(hidden), rows_held):
            logits, part = head(hidden[at : at + rows_held]).float(), targets[at : at + rows_held]
            parts.append(functional.cross_entropy(logits, part, ignore_index=IGNORED, reduction="sum"))
        count += int((wanted != IGNORED).sum())
    return sum(torch.stack(parts).tolist()), count  # read at the end, so that the host does not wait for each
