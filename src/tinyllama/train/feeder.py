"""From the sampler to tensors, one step ahead of the trainer."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from tinyllama.corpus.digest import row_digest
from tinyllama.corpus.rows import IGNORED
from tinyllama.model.devices import set_current_device
from tinyllama.sampler import StepRows, rank_part
from tinyllama.train.ranks import Ranks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from tinyllama.corpus.rows import Rows
    from tinyllama.plan import Plan
    from tinyllama.sampler import Sampler


class StepBatch(NamedTuple):
    """One step's batch: its rows, and the tokens of those that this rank computes."""

    step: int
    rows: StepRows
    """The rows of all ranks."""
    inputs: Tensor
    """Token ids [B, T] of this rank."""
    targets: Tensor
    """Token ids [B, T], IGNORED where nothing is predicted."""
    predicted: int
    """Number of predicted targets in the batch of all ranks."""
    digest: int = 0
    """Sum of the digests of this rank's rows."""

    def named_rows(self, plan: Plan) -> list[str]:
        """Each row of all ranks as `corpus:row`, or `corpus@context:row` if the context is not the model's own."""
        partitions = plan.partitions_of(self.step)
        names = [partitions[index] for index in self.rows.corpus.tolist()]
        return [f"{name}:{row}" for name, row in zip(names, self.rows.row.tolist(), strict=True)]


def trial_batch(rows: int, context: int, vocab_size: int) -> StepBatch:
    """Rows to try what a step takes: each id in turn, since rows of one separator would be a document per token."""
    none, tokens = np.zeros(0, np.int64), (torch.arange(rows * context) % vocab_size).view(rows, context)
    return StepBatch(0, StepRows(none, none), tokens, tokens, rows * context)


_ALONE = Ranks()


def read_step(plan: Plan, sampler: Sampler, rows: Mapping[str, Rows], step: int, ranks: Ranks = _ALONE) -> StepBatch:
    """Read this rank's rows of one step, of the partitions of its context.

    All ranks get the same number: where it does not divide the batch, a rank's part ends in a row without targets.
    """
    chosen, partitions = sampler.step(step), plan.partitions_of(step)
    named = [(partitions[c], r) for c, r in zip(chosen.corpus.tolist(), chosen.row.tolist(), strict=True)]
    own = named[rank_part(len(named), ranks.rank, ranks.count)]
    shape = (-(-len(named) // ranks.count), int(plan.contexts[step]))
    inputs, targets = np.zeros(shape, np.int64), np.full(shape, IGNORED, np.int64)
    digest = 0
    for index, (name, row) in enumerate(own):
        inputs[index], targets[index] = rows[name].row(row)
        digest += row_digest(name, row, inputs[index], targets[index])
    predicted = sum(rows[name].predicted(row) for name, row in named)
    return StepBatch(step, chosen, _pinned(inputs, ranks), _pinned(targets, ranks), predicted, digest)


def _pinned(tokens: NDArray[np.int64], ranks: Ranks) -> Tensor:
    """A tensor, for CUDA in pinned memory, from which the device copies while the host works."""
    tensor = torch.from_numpy(tokens)
    return tensor.pin_memory() if ranks.device.type == "cuda" else tensor


def feed(  # noqa: PLR0913, PLR0917  # what read_step takes, for a range of steps
    plan: Plan, sampler: Sampler, rows: Mapping[str, Rows], first: int, end: int, ranks: Ranks = _ALONE
) -> Iterator[StepBatch]:
    """Batches of the steps from `first` to `end`; the next is read while the trainer works on one."""
    with ThreadPoolExecutor(
        1, thread_name_prefix="feeder", initializer=set_current_device, initargs=(ranks.device,)
    ) as pool:
        ahead: Future[StepBatch] | None = None
        for step in range(first, end):
            batch = ahead.result() if ahead else read_step(plan, sampler, rows, step, ranks)
            ahead = pool.submit(read_step, plan, sampler, rows, step + 1, ranks) if step + 1 < end else None
            yield batch
