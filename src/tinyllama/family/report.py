"""Everything after training: scores, samples, exports, summary.json and the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tinyllama.errors import ExportError
from tinyllama.evaluation.record import bits_by_source
from tinyllama.family.background import evaluate_copies
from tinyllama.family.evaluate import evaluate_family
from tinyllama.family.export import export_hugging_face
from tinyllama.family.samples import sample_family
from tinyllama.installation import installed_versions
from tinyllama.report import write_report
from tinyllama.report.summary import FamilySummary, write_summary
from tinyllama.train.machine import describe_machine

if TYPE_CHECKING:
    from tinyllama.checkpoint.format import Checkpoint
    from tinyllama.evaluation.record import EvaluationRecord
    from tinyllama.family.prepare import Prepared
    from tinyllama.family.workspace import Workspace

_LIBRARIES = ("tinyllama", "torch", "transformers", "sentencepiece", "lm_eval", "numpy", "safetensors")


def report_family(work: Workspace, prepared: Prepared, checkpoints: dict[str, Checkpoint], data: Path) -> FamilySummary:
    """Evaluate, sample and export the trained models; write summary.json and report.html.

    Raises:
        ExportError: transformers computes different logits; summary and report are written first, without exports.
    """
    for model in work.models:
        if work.layout.evaluating(model).is_dir():  # evaluations started during training belong in the report
            evaluate_copies(work.layout.model(model), data, work.recipe.evaluation.tasks)
    with work.timed("evaluate"):
        records = evaluate_family(work, prepared, checkpoints, data)
        sample_family(work, prepared.tokenizer, checkpoints)
    exports, failure = dict[str, Path](), None
    with work.timed("export"):
        try:
            exports = export_hugging_face(work, prepared, checkpoints, records)
        except ExportError as error:  # scores and report are written anyway
            failure = error
    summary = _summarize(work, prepared, records, exports)
    write_summary(work.layout.summary, summary)
    work.progress.say("writing the report")
    write_report(work.layout.root, work.recipe)
    if failure is not None:
        raise failure
    return summary


def _summarize(
    work: Workspace, prepared: Prepared, records: dict[str, EvaluationRecord], exports: dict[str, Path]
) -> FamilySummary:
    return FamilySummary(
        recipe=work.recipe.name,
        description=work.recipe.description,
        parameters=work.recipe.model.parameters,
        models=list(records),
        corpora=list(prepared.corpora),
        missing=prepared.missing,
        bits_per_byte={model: record.bits_by_text for model, record in records.items()},
        bits_per_byte_by_source=bits_by_source(records),
        tasks={model: record.scores for model, record in records.items()},
        tokens={model: record.source.tokens or 0 for model, record in records.items()},
        fingerprints={model: record.source.fingerprint or "" for model, record in records.items()},
        seconds=work.seconds,
        exports={model: str(folder.relative_to(work.layout.root)) for model, folder in exports.items()},
        versions=installed_versions(_LIBRARIES),
        machine=describe_machine(),
    )
