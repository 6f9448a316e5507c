"""Evaluate the trained models of a family; reuse records that are still valid."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import torch

from tinyllama.corpus.manifest import HELD_OUT
from tinyllama.errors import CorpusError
from tinyllama.evaluation import legacy
from tinyllama.evaluation.bits import bits_of_corpora
from tinyllama.evaluation.catalogue import CATALOGUE, expand_tasks
from tinyllama.evaluation.hub_sets import HubSets
from tinyllama.evaluation.record import EXACT, BitsPerByte, Conditions, EvaluationRecord, library_versions
from tinyllama.evaluation.record_folder import read_current_record, write_record
from tinyllama.evaluation.scores import EvaluationOptions
from tinyllama.evaluation.task_fetching import provide
from tinyllama.evaluation.task_files import data_hashes
from tinyllama.evaluation.tasks import evaluate_tasks
from tinyllama.family.trained import identity
from tinyllama.files import sha256_json
from tinyllama.formats.model_source import CheckpointModel
from tinyllama.inference.packing import pack
from tinyllama.processors import available_cores
from tinyllama.train.machine import describe_machine
from tinyllama.train.precision import DTYPES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tinyllama.checkpoint.format import Checkpoint
    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.family.prepare import Prepared
    from tinyllama.family.workspace import Workspace

_log = logging.getLogger(__name__)


def evaluate_family(
    work: Workspace, prepared: Prepared, checkpoints: dict[str, Checkpoint], data: Path
) -> dict[str, EvaluationRecord]:
    """Bits per byte on every corpus and task scores for every model: model → record."""
    torch.set_num_threads(available_cores())
    hub = HubSets()
    provide(expand_tasks(work.recipe.evaluation.tasks), data, work.progress.say, hub)
    records = {}
    for model, checkpoint in checkpoints.items():
        folder = work.layout.record(model)
        inputs = _evaluation_inputs(work, prepared, checkpoint, data)
        record = read_current_record(folder, inputs)
        # What lm-eval alone defines has no hash here: the data of a task without a score may be there now.
        if record is None or any(name not in CATALOGUE for name in record.scores.missing):
            work.progress.say(f"evaluating {model}")
            record = _evaluate(work, prepared, model, checkpoint, inputs[0], data, hub)
            write_record(folder, record)
        records[model] = record
    return records


def _evaluate(  # noqa: PLR0913, PLR0917  # everything that a record depends on
    work: Workspace, prepared: Prepared, model: str, checkpoint: Checkpoint, inputs: str, data: Path, hub: HubSets
) -> EvaluationRecord:
    began, recipe = time.monotonic(), work.recipe
    source = CheckpointModel(checkpoint, recipe, model, work.layout, model)
    bits = bits_of_model(work, prepared.corpora, model, checkpoint)
    options = EvaluationOptions(bos=source.adds_bos, hub=hub)
    exact = source.load().to(work.device)
    pack(exact)
    scores = evaluate_tasks(exact, prepared.tokenizer, recipe.evaluation.tasks, data, options)
    return EvaluationRecord(
        model=model,
        source=source.identity(),
        scores=scores,
        bits_per_byte=bits,
        conditions=Conditions(
            tokenizer_sha256=prepared.tokenizer.sha256,
            dtype=EXACT,
            device=work.device.type,
            threads=available_cores(),
            machine=describe_machine(),
            versions=library_versions(),
            seconds=round(time.monotonic() - began, 1),
        ),
        inputs=inputs,
    )


def bits_of_model(
    work: Workspace, corpora: Mapping[str, PreparedCorpus], model: str, checkpoint: Checkpoint
) -> BitsPerByte:
    """Bits per byte of a model's checkpoint on corpora, in the precision that it was trained in.

    Args:
        work: the family, in that precision.
        corpora: to measure on; those whose held-out part is shorter than a row are left out, with a warning.
        model: its name.
        checkpoint: its weights.
    """
    recipe = work.recipe
    source = CheckpointModel(checkpoint, recipe, model, work.layout, model)
    window = source.shape.context
    weights = source.load(DTYPES[recipe.precision]).to(work.device)
    masking = recipe.document_masking
    bits = bits_of_corpora(weights, _measurable(corpora, window), document_masking=masking)
    return BitsPerByte.of(bits, window, recipe.precision)


def _measurable(corpora: Mapping[str, PreparedCorpus], context: int) -> dict[str, PreparedCorpus]:
    """Corpora whose held-out part has at least one row of a context."""
    kept = {}
    for name, corpus in corpora.items():
        try:
            corpus.rows(HELD_OUT, context)
        except CorpusError as error:
            _log.warning("%s", error)
            continue
        kept[name] = corpus
    return kept


def _evaluation_inputs(work: Workspace, prepared: Prepared, checkpoint: Checkpoint, data: Path) -> list[str]:
    """Hashes of everything an evaluation depends on: the current hash first, then the one that commit 4bd9be0 wrote.

    That version hashed only the `*.jsonl` files in the data folder, so its hash is valid while the tasks use no
    other files.
    """
    tasks = work.recipe.evaluation.tasks
    current, before = data_hashes(expand_tasks(tasks), data), legacy.data_hashes(data)
    return [
        sha256_json(
            {
                "weights": identity(checkpoint),
                "corpora": {name: corpus.sha256 for name, corpus in prepared.corpora.items()},
                "tasks": tasks,
                "data": hashes,
            }
        )
        for hashes in ([current, before] if current.keys() <= before.keys() else [current])
    ]
