"""Log-likelihoods of many texts, each prefix that texts share computed once.

The answer options of a question begin with the same prompt, and few-shot questions with the same examples. Texts
that share enough are laid out as one tree of tokens in one row: every token attends to its own ancestors alone and
has the position it has in its text, so each text gets what it would get alone, up to the order of additions.

Shapes in comments: B rows, T tokens in the longest row, D width, N scored positions, V vocabulary.
"""

from __future__ import annotations

from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tinyllama.evaluation.passes import pass_limits
from tinyllama.model.attention import kernels_for_any_shape
from tinyllama.model.devices import free_memory, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from tinyllama.evaluation.passes import PassLimits
    from tinyllama.model import Llama

Score = tuple[float, bool]
"""Log-likelihood of a continuation in nats, and whether greedy decoding would give it."""

_POSITIONS_PER_HEAD = {"cpu": 128, "cuda": 2048}  # rows of logits held at once, on CPUs in memory that is reused
_SOFTMAX = 1 << 19  # log-probabilities that a CPU computes at a time, so that they stay in a core's cache
_WORKERS = 4  # passes that a CPU computes at a time at most: more would wait for the interpreter
_TOKENS_AT_ONCE = 4096  # of the longest rows of these: their masks grow with the square of a row
_TREE_TOKENS = 512  # attention grows with the square of a row
_WORTH_SHARING = 8  # a text joins a tree if at least 1 / 8 of it is there already


class Window(NamedTuple):
    """Ids that fit the context, and the targets of their last positions."""

    inputs: tuple[int, ...]
    targets: tuple[int, ...]


@dataclass
class TokenTree:
    """Texts laid out in one row, common prefixes once."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    """Of each token in its text."""
    paths: list[NDArray[np.int64]] = field(default_factory=list)
    """For each text, the positions of its tokens in the row."""
    branches: list[int] = field(default_factory=list)
    """For each text, how many of its tokens belong to an earlier text of the tree."""
    windows: list[int] = field(default_factory=list)
    """Which windows the texts are."""

    def add(self, window: int, inputs: Sequence[int], shared: int) -> None:
        """Append a text that shares its first tokens with the one added last."""
        start, new = len(self.tokens), len(inputs) - shared
        before = self.paths[-1][:shared] if shared else np.empty(0, np.int64)
        self.paths.append(np.concatenate([before, np.arange(start, start + new)]))
        self.branches.append(shared)
        self.windows.append(window)
        self.tokens.extend(inputs[shared:])
        self.positions.extend(range(shared, len(inputs)))

    @property
    def is_chain(self) -> bool:
        """Whether every token follows the one before it, so that plain causal attention does."""
        return self.positions == list(range(len(self.positions)))

    def fill_mask(self, mask: NDArray[np.bool_]) -> None:
        """Mark in a mask [T, T] what each token may attend to: its ancestors and itself."""
        for path, shared in zip(self.paths, self.branches, strict=True):
            if own := len(path) - shared:
                start = int(path[-own])
                mask[start : start + own, path[:shared]] = True
                mask[start : start + own, start : start + own] = np.tri(own, dtype=bool)


def plan_trees(windows: Sequence[Window]) -> list[TokenTree]:
    """Put every window into a tree, longest tree first.

    Sorted by their ids, neighbors share the longest prefixes.
    """
    trees: list[TokenTree] = []
    before: tuple[int, ...] = ()
    for index in sorted(range(len(windows)), key=lambda i: windows[i].inputs):
        inputs = windows[index].inputs
        shared = common_prefix(before, inputs)
        limit = max(_TREE_TOKENS, 2 * len(inputs))
        if shared * _WORTH_SHARING < len(inputs) or len(trees[-1].tokens) + len(inputs) - shared > limit:
            trees.append(TokenTree())
            shared = 0
        trees[-1].add(index, inputs, shared)
        before = inputs
    return sorted(trees, key=lambda tree: len(tree.tokens), reverse=True)


def score_windows(
    model: Llama, windows: Sequence[Window], rows: int | None = None
) -> Iterator[list[tuple[int, Score]]]:
    """Score windows, pass by pass: yields (index of the window, its score) as soon as they are known.

    Args:
        model: scored on its device, in its precision; sums are fp32.
        windows: each of at most the model's context.
        rows: rows of a pass; None takes as many as suit the device and its free memory.
    """
    device, limits = model.embed_tokens.weight.device, pass_limits(model, rows)
    trees, start = plan_trees(windows), 0
    score = partial(_score_trees, model, windows, device=device)
    with _mapping(model, _passes(trees, limits)) as mapping:
        while start < len(trees):
            batches = _passes(trees[start:], limits)
            for batch, scored in zip(batches, mapping(score, batches), strict=True):
                if scored is None:
                    limits = limits.half_of(len(batch), len(batch[0].tokens))
                    free_memory(device)
                    break
                yield scored
                start += len(batch)


def _passes(trees: Sequence[TokenTree], limits: PassLimits) -> list[Sequence[TokenTree]]:
    """Trees, longest first, in passes within limits."""
    passes, start = [], 0
    while start < len(trees):
        passes.append(trees[start : start + limits.rows_of(len(trees[start].tokens))])
        start += len(passes[-1])
    return passes


@contextmanager
def _mapping(model: Llama, passes: Sequence[Sequence[TokenTree]]) -> Iterator[Callable[..., Iterator[Any]]]:
    """A `map` over passes: on a CPU several at a time, each with its part of the threads, which wait less so.

    As its block fails or is interrupted, passes end with the layer that they are in.
    """
    threads, most = torch.get_num_threads(), 1
    if passes and model.embed_tokens.weight.device.type == "cpu":
        most = min(_WORKERS, len(passes), max(1, _TOKENS_AT_ONCE // len(passes[0][0].tokens)))
    workers = max((count for count in range(1, most + 1) if threads % count == 0), default=1)
    if workers == 1:
        yield map
        return
    ended = Event()
    hooks = [layer.register_forward_pre_hook(lambda *_: _end_if(ended)) for layer in model.layers]
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,)) as pool:
            try:
                yield pool.map
            finally:
                ended.set()
    finally:
        for hook in hooks:
            hook.remove()
        torch.set_num_threads(threads)  # a thread's setting is also that of threads to come


def _end_if(ended: Event) -> None:
    if ended.is_set():
        raise CancelledError


def _score_trees(
    model: Llama, windows: Sequence[Window], batch: Sequence[TokenTree], device: torch.device
) -> list[tuple[int, Score]] | None:
    """Scores of the windows of some trees; None if the device had no memory for them, and would have for fewer."""
    try:
        with torch.inference_mode():
            with kernels_for_any_shape(device):
                states = _states(model, batch, device)  # [B, T, D]
            places, targets, members = [], [], []
            for row, tree in enumerate(batch):
                for path, index in zip(tree.paths, tree.windows, strict=True):
                    ids = windows[index].targets
                    places.append(row * states.shape[1] + path[-len(ids) :])
                    targets.append(ids)
                    members.append(index)
            distinct, where = np.unique(np.concatenate(places), return_inverse=True)  # options share the first place
            scored = states.flatten(0, 1)[torch.from_numpy(distinct).to(device)]  # [N, D]
            return list(zip(members, _score_states(model, scored, where, targets), strict=True))
    except RuntimeError as error:
        if len(batch) == 1 or not is_out_of_memory(error):
            raise
        return None


def _states(model: Llama, batch: Sequence[TokenTree], device: torch.device) -> Tensor:
    """Normed states of some trees [B, T, D]; what follows a row's end has no meaning."""
    length = len(batch[0].tokens)
    tokens = np.zeros((len(batch), length), np.int64)
    for row, tree in enumerate(batch):
        tokens[row, : len(tree.tokens)] = tree.tokens
    ids = torch.from_numpy(tokens).to(device)
    if all(tree.is_chain for tree in batch):
        return model.hidden(ids)  # attention is causal: what comes after a text does not reach it
    positions = np.zeros((len(batch), 1, length), np.int64)
    mask = np.zeros((len(batch), 1, length, length), np.bool_)
    mask[..., 0] = True  # a padded position must look somewhere, or its softmax is of nothing
    for row, tree in enumerate(batch):
        positions[row, 0, : len(tree.positions)] = tree.positions
        tree.fill_mask(mask[row, 0])
    return model.hidden(ids, mask=torch.from_numpy(mask).to(device), positions=torch.from_numpy(positions).to(device))


def _score_states(
    model: Llama, states: Tensor, where: NDArray[np.int64], targets: Sequence[Sequence[int]]
) -> list[Score]:
    """Each window's score, over the head in chunks.

    Args:
        model: whose head is taken.
        states: normed, of all scored positions [N, D].
        where: which of them predicts each target, over all windows.
        targets: of each window.
    """
    device, lengths = states.device, [len(ids) for ids in targets]
    order = np.argsort(where, kind="stable")
    places = where[order]
    rows, ids = torch.from_numpy(places).to(device), torch.from_numpy(np.concatenate(targets)[order]).to(device)
    logps, hits = torch.empty(len(ids), device=device), torch.empty(len(ids), dtype=torch.bool, device=device)
    size = _POSITIONS_PER_HEAD.get(device.type, _POSITIONS_PER_HEAD["cuda"])
    part = max(1, _SOFTMAX // model.shape.vocab_size) if device.type == "cpu" else size
    for first in range(0, len(states), size):
        logits = model.lm_head(states[first : first + size])
        for start in range(0, len(logits), part):
            row = first + start
            here = slice(*np.searchsorted(places, (row, min(row + part, first + size))))
            logps[here], hits[here] = _score_logits(logits[start : start + part], rows[here] - row, ids[here])
    given = torch.from_numpy(np.argsort(order)).to(device)
    logps, hits = logps[given].cpu(), hits[given].cpu()  # once, since each number that the host reads is waited for
    parts = zip(torch.split(logps, lengths), torch.split(hits, lengths), strict=True)
    return [(float(logp.sum()), bool(hit.all())) for logp, hit in parts]


def _score_logits(logits: Tensor, rows: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of each target [M] (fp32), and whether it is the greedy choice.

    Args:
        logits: of some positions [n, V].
        rows: position of each target [M].
        ids: the targets [M].
    """
    all_logps = logits.float().log_softmax(1)
    own = all_logps[rows, ids]
    hits = own == all_logps.amax(1)[rows]
    # The first of equal logits is greedy; argmax over these few rows is cheap, over all it is not.
    hits[hits.clone()] = all_logps[rows[hits]].argmax(1) == ids[hits]
    return own, hits


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many first ids are the same."""
    for index, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return index
    return min(len(left), len(right))
