"""What follows training: scores, samples, exports, summary.json and the report."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from tinyllama.family.background import evaluate_copies
from tinyllama.family.results import evaluate_family, export_family, finished, sample_family
from tinyllama.files import write_json
from tinyllama.report import write_report
from tinyllama.train.machine import describe_machine

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.family.prepare import Prepared
    from tinyllama.family.workspace import Workspace

_LIBRARIES = ("tinyllama", "torch", "transformers", "sentencepiece", "lm_eval", "numpy", "safetensors")


def conclude(work: Workspace, prepared: Prepared, data: Path) -> dict[str, Any]:
    """Evaluate, sample, export and report what is trained; writes summary.json and report.html.

    Returns:
        What summary.json holds.
    """
    for model in work.models:
        if work.layout.evaluating(model).is_dir():  # what was begun during training belongs in the report
            evaluate_copies(work.layout.model(model), data, work.recipe.evaluation.tasks)
    checkpoints = finished(work)
    with work.timed("evaluate"):
        records = evaluate_family(work, prepared, checkpoints, data)
        sample_family(work, prepared.tokenizer, checkpoints)
    with work.timed("export"):
        exports = export_family(work, prepared, checkpoints, records)
    summary = summarize_family(work, prepared, records, exports)
    write_json(work.layout.summary, summary)
    work.progress.say("writing the report")
    write_report(work.layout.root, work.recipe)
    return summary


def summarize_family(
    work: Workspace, prepared: Prepared, records: dict[str, dict[str, Any]], exports: dict[str, Path]
) -> dict[str, Any]:
    """The figures of a family for programs."""
    return {
        "recipe": work.recipe.name,
        "description": work.recipe.description,
        "parameters": work.recipe.model.parameters,
        "models": list(records),
        "corpora": list(prepared.corpora),
        "missing": prepared.missing,
        "bits_per_byte": {model: record["bits_per_byte"] for model, record in records.items()},
        "tasks": {model: record["tasks"] for model, record in records.items()},
        "tokens": {model: record["tokens"] for model, record in records.items()},
        "fingerprints": {model: record["fingerprint"] for model, record in records.items()},
        "seconds": work.seconds,
        "exports": {model: str(folder.relative_to(work.layout.root)) for model, folder in exports.items()},
        "versions": {name: _version(name) for name in _LIBRARIES},
        "machine": describe_machine(),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
