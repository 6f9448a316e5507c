"""What a run recorded, compared with its plan step by step: metrics, rows, corpora and checkpoints."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from tinyllama.checkpoint.fingerprint import fingerprint_inputs
from tinyllama.corpus.digest import from_limbs, limbs, row_digest
from tinyllama.errors import CheckpointError, CorpusError, TrainingError
from tinyllama.fidelity.record import Outcome, RecordedSteps, differs
from tinyllama.train.metrics import chain_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pydantic import JsonValue

    from tinyllama.checkpoint.format import Checkpoint
    from tinyllama.checkpoint.state import Span
    from tinyllama.fidelity.run import OpenRun


def audit(run: OpenRun, samples: int | None = None, say: Callable[[str], None] = lambda _: None) -> list[Outcome]:
    """Compare what a model's training recorded with its plan.

    Args:
        run: the model's training.
        samples: number of random steps whose rows are read again from the corpora; None reads those of all steps.
        say: receives the progress.

    Returns:
        A finding for each check, or for each thing that differs.
    """
    saved = run.store.steps()
    record = RecordedSteps(run, saved)
    return [
        *record.findings(),
        *_fork(run, record),
        *_corpora(run),
        *_rows(run, record, samples, say),
        *(finding for step in saved for finding in _checkpoint(run, record, step)),
    ]


def _fork(run: OpenRun, record: RecordedSteps) -> Iterator[Outcome]:
    """Whether the parent's records are those that the model's continue."""
    step, parent = run.first_step, run.recipe.parent(run.model)
    if not step:
        return
    try:
        there = chain_at(run.layout.metrics(parent), step)
    except TrainingError as error:
        yield differs("fork", str(error), step)
        return
    if not record.fork_chain:
        yield Outcome("fork", "no evidence", f"nothing ties it to {parent}: its records do not begin with that chain")
    elif not there:
        yield Outcome("fork", "no evidence", f"{parent} has no record of step {step} here, or no chain")
    elif there != record.fork_chain:
        yield differs("fork", f"it continues another training of {parent} than the one that is here", step)
    else:
        yield Outcome("fork", "pass", f"it continues step {step} of {parent}, as it is here")


def _corpora(run: OpenRun) -> Iterator[Outcome]:
    """Whether the corpora are complete, and prepared with the family's tokenizer."""
    plan = run.plan
    for index, name in enumerate(plan.corpora):
        first = int((plan.counts[:, index] > 0).argmax()) + 1
        if not run.layout.corpus(name).is_dir():
            yield Outcome("corpora", "no evidence", f"{name} is not here")
            continue
        try:
            made_with, own = run.corpus(name).manifest.request.tokenizer, run.tokenizer.sha256
        except CorpusError as error:
            yield differs("corpora", str(error), first)
            continue
        if made_with != own:
            found = f"{name} is of the tokenizer {made_with[:12]}…, the family's is {own[:12]}…"
            yield differs("corpora", found, first)
        else:
            yield Outcome("corpora", "pass", f"{name} is complete, and of the family's tokenizer")


def _rows(run: OpenRun, record: RecordedSteps, samples: int | None, say: Callable[[str], None]) -> Iterator[Outcome]:
    """Whether the rows that were fed are those that the sampler chooses and the corpora hold."""
    recorded = record.digests
    if missing := record.last - record.first - len(recorded):
        why = f"{missing} steps have no digest of their rows; `tinyllama corpus verify` compares the corpora's files"
        yield Outcome("rows", "no evidence", why)
    chosen = list(recorded)
    if samples is not None and samples < len(chosen):
        chosen = sorted(np.random.default_rng().choice(chosen, samples, replace=False).tolist())
    try:
        _ = run.sampler
    except CorpusError as error:
        yield Outcome("rows", "no evidence", f"they cannot be compared: {error}")
        return
    for step in chosen:
        say(f"{run.model}: rows of step {step} of {record.last}")
        if (found := digest_of_step(run, step)) != recorded[step]:
            text = f"their digest is {recorded[step]}, plan and corpora give {found}: other rows, or other tokens"
            yield differs("rows", text, step)
            return
    if chosen:
        yield Outcome("rows", "pass", f"of {len(chosen)} steps: those of plan, seed and corpora")


def digest_of_step(run: OpenRun, step: int) -> str:
    """The digest of the rows that the sampler chooses for a step, counted from 1, as the corpora hold them.

    Raises:
        CorpusError: a corpus is not here, or cannot be read.
    """
    partitions, total = run.plan.partitions_of(step - 1), 0
    chosen = run.sampler.step(step - 1)
    for index, row in zip(chosen.corpus.tolist(), chosen.row.tolist(), strict=True):
        total += row_digest(partitions[index], row, *run.rows[partitions[index]].row(row))
    return from_limbs(limbs(total))


def _checkpoint(run: OpenRun, record: RecordedSteps, step: int) -> Iterator[Outcome]:
    """Whether a checkpoint is whole, of this recipe, and written when the record was what it is."""
    name = f"checkpoint {step}"
    if step > run.plan.steps:
        yield differs(name, f"the plan has {run.plan.steps} steps", step)
        return
    try:
        checkpoint = run.store.open(step)
        _refuse_other(run, checkpoint, step)
    except CheckpointError as error:
        yield differs(name, str(error), step)
        return
    state, head, recorded = checkpoint.state, record.heads.get(step, ""), record.skipped_at.get(step, ())
    checkpoint.release()
    planned = (run.model, step, run.plan.tokens_after(step))
    if (found := (state.run, state.step, state.tokens)) != planned:
        yield differs(name, f"run, step and tokens are {found}, the plan says {planned}", step)
    elif _steps(state.skipped, run) != _steps(recorded, run):
        yield differs(name, f"the steps {state.skipped} were skipped, the record says {recorded}", step)
    elif state.fingerprint != state.fingerprint_inputs.fingerprint(state.skipped):
        yield differs(name, "its fingerprint is not that of its inputs", step)
    elif checkpoint.chain and checkpoint.chain != head:
        yield differs(name, "its manifest has another chain than metrics.jsonl: one was replaced", step)
    elif not checkpoint.chain and step > run.first_step:
        yield Outcome(name, "no evidence", "hashes and recipe are right; nothing ties it to metrics.jsonl")
    else:
        yield Outcome(name, "pass", "hashes, recipe and chain")


def _refuse_other(run: OpenRun, checkpoint: Checkpoint, step: int) -> None:
    """Compare a checkpoint's recipe with the family's.

    Raises:
        CheckpointError: they differ; names the key.
    """
    recorded = checkpoint.state.fingerprint_inputs
    hashes: dict[str, JsonValue] = {}
    for name in run.plan.corpora:
        hashes[name] = recorded.root.get(f"corpora.{name}")
        with suppress(CorpusError):  # which another check reports
            hashes[name] = run.corpus(name).sha256
    current = fingerprint_inputs(run.recipe, run.plan, step, hashes, run.tokenizer.sha256, run.start_sha256)
    recorded.refuse_change(current, str(checkpoint.folder))


def _steps(spans: Iterable[Span], run: OpenRun) -> set[int]:
    """The steps of some spans that the run itself made."""
    return {step for first, last in spans for step in range(first, last + 1) if step > run.first_step}
