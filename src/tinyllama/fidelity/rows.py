"""The rows of steps as text: documents, where they came from, and what of them is in a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinyllama.corpus.documents import DocumentIndex
from tinyllama.corpus.manifest import TRAIN
from tinyllama.errors import UserError
from tinyllama.fidelity.trained import trained_steps
from tinyllama.sampler import rank_part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tinyllama.fidelity.run import OpenRun
    from tinyllama.fidelity.trained import Update


@dataclass(frozen=True)
class Piece:
    """The part of a document that is in a row."""

    document: int
    """Index in the corpus's training documents."""
    origin: str
    """Where the document was found: see `Document.origin`."""
    part: int
    """Index of this piece in its source document."""
    start: int
    """First token of the document that is in the row."""
    tokens: int
    text: str


@dataclass(frozen=True)
class SeenRow:
    """A row of a step: T + 1 tokens, of which all but the first are predicted."""

    step: int
    """Counted from 1."""
    position: int
    """In the batch, from 0."""
    corpus: str
    """Its name, as `name@context` where the context is not the model's own."""
    row: int
    """Index in the corpus's training rows of this context."""
    update: Update
    """Of the step: `made`, `skipped` (or undone by a rollback), or `later`, which is not trained yet."""
    pieces: list[Piece]


def rows_of_steps(
    run: OpenRun, first: int, last: int, rank: int | None = None, position: int | None = None
) -> Iterator[SeenRow]:
    """The rows that a model saw or will see, in training order.

    Args:
        run: the model's training.
        first: first step, counted from 1.
        last: last step.
        rank: only the rows of this rank, among as many as trained the step.
        position: only the row at this position in each batch.

    Raises:
        UserError: the plan has no such step, the batch no such row, or no checkpoint tells the number of ranks.
        CorpusError: a corpus is not here or damaged.
    """
    if not 1 <= first <= last <= run.plan.steps:
        raise UserError(f"--step {first}..{last}: the plan of {run.model} has the steps 1 to {run.plan.steps}")
    trained = trained_steps(run)
    indices = {name: DocumentIndex(corpus, TRAIN) for name, corpus in run.corpora.items()}
    for step in range(first, last + 1):
        chosen, partitions = run.sampler.step(step - 1), run.plan.partitions_of(step - 1)
        batch = range(len(chosen.row))
        wanted = batch if rank is None else batch[rank_part(len(batch), rank, _ranks(run, step, rank))]
        if position is not None and position not in batch:
            raise UserError(f"--row {position}: step {step} has the rows 0 to {len(batch) - 1}")
        for at in wanted if position is None else {position} & set(wanted):
            corpus, row = run.plan.corpora[chosen.corpus[at]], int(chosen.row[at])
            partition = partitions[chosen.corpus[at]]
            pieces = _pieces(run, indices[corpus], partition, row)
            yield SeenRow(step, at, partition, row, trained.update(step), pieces)


def _ranks(run: OpenRun, step: int, rank: int) -> int:
    """The number of ranks that trained a step, as the first checkpoint after it tells."""
    for saved in run.store.steps():
        if saved >= step and (ranks := run.store.state(saved).ranks) is not None:
            if rank < ranks:
                return ranks
            raise UserError(f"--rank {rank}: step {step} was trained by {ranks} ranks, 0 to {ranks - 1}")
    raise UserError(f"--rank {rank}: no checkpoint tells how many ranks trained step {step}; omit --rank")


def _pieces(run: OpenRun, index: DocumentIndex, partition: str, row: int) -> list[Piece]:
    corpus, span = index.corpus, run.rows[partition].span(row)
    special = {corpus.manifest.bos_id, corpus.manifest.eos_id}
    found = []
    for document in index.overlapping(span.start, span.stop):
        begin, end = max(span.start, document.start), min(span.stop, document.start + document.tokens)
        ids = run.rows[partition].stream.read(begin, end - begin).tolist()
        text = run.tokenizer.decode([token for token in ids if token not in special])
        found.append(Piece(document.number, document.origin, document.part, begin - document.start, end - begin, text))
    return found
