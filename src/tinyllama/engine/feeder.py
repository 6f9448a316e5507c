"""From the sampler to tensors, one step ahead of the trainer."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from tinyllama.corpus.rows import IGNORED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from tinyllama.corpus.rows import Rows
    from tinyllama.plan import Plan
    from tinyllama.sampler import Sampler, StepRows


class StepBatch(NamedTuple):
    """The global batch of one step."""

    step: int
    rows: StepRows
    inputs: Tensor
    """Ids [B, T]."""
    targets: Tensor
    """Ids [B, T], IGNORED where nothing is predicted."""
    predicted: int
    """Targets that are predicted, in the whole batch."""


def read_step(plan: Plan, sampler: Sampler, rows: Mapping[str, Rows], step: int) -> StepBatch:
    """Read all rows of one step."""
    chosen = sampler.step(step)
    pairs = [rows[plan.corpora[c]].row(r) for c, r in zip(chosen.corpus.tolist(), chosen.row.tolist(), strict=True)]
    inputs = torch.from_numpy(np.stack([pair[0] for pair in pairs]))
    targets = torch.from_numpy(np.stack([pair[1] for pair in pairs]))
    return StepBatch(step, chosen, inputs, targets, int((targets != IGNORED).sum()))


def feed(plan: Plan, sampler: Sampler, rows: Mapping[str, Rows], first: int, end: int) -> Iterator[StepBatch]:
    """Batches of the steps from `first` to `end`; the next is read while the trainer works on one."""
    with ThreadPoolExecutor(1, thread_name_prefix="feeder") as pool:
        ahead: Future[StepBatch] | None = None
        for step in range(first, end):
            batch = ahead.result() if ahead else read_step(plan, sampler, rows, step)
            ahead = pool.submit(read_step, plan, sampler, rows, step + 1) if step + 1 < end else None
            yield batch
