"""One recipe in, an evaluated family out: every phase in order, skipping what is done and valid."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from tinyllama.files import write_json
from tinyllama.train.machine import describe_machine

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.evaluation.record import EvaluationRecord
    from tinyllama.family.family import Family

_LIBRARIES = ("tinyllama", "torch", "transformers", "sentencepiece", "lm_eval", "numpy", "safetensors")


def reproduce(family: Family, data: Path) -> dict[str, Any]:
    """Prepare, train, evaluate, export and report a family; returns what summary.json holds.

    A model whose text cannot be had is left out, and said; the others go on.
    """
    with family.timed("prepare"):
        _ = family.corpora
    for model in family.models:
        if lacking := family.lacks(model):
            family.progress.say(f"{model}: left out, since {', '.join(lacking)} cannot be had")
            continue
        family.train(model)
    return conclude(family, data)


def conclude(family: Family, data: Path) -> dict[str, Any]:
    """Evaluate, sample, export and report what is trained; writes summary.json and report.html."""
    from tinyllama.family.background import COPIES, evaluate_copies  # noqa: PLC0415  # with the rest
    from tinyllama.family.results import evaluate_family, export_family, finished, sample_family  # noqa: PLC0415  # torch
    from tinyllama.report import write_report  # noqa: PLC0415  # imports plotly

    for model in family.models:
        if (family.folder / model / COPIES).is_dir():  # what was begun during training belongs in the report
            evaluate_copies(family.folder / model, data, family.recipe.evaluation.tasks)
    checkpoints = finished(family)
    with family.timed("evaluate"):
        records = evaluate_family(family, checkpoints, data)
        sample_family(family, checkpoints)
    with family.timed("export"):
        exports = export_family(family, checkpoints, records)
    summary = summarize_family(family, records, exports)
    write_json(family.folder / "summary.json", summary)
    family.progress.say("writing the report")
    write_report(family.folder, family.recipe)
    return summary


def summarize_family(family: Family, records: dict[str, EvaluationRecord], exports: dict[str, Path]) -> dict[str, Any]:
    """The figures of a family for programs."""
    from tinyllama.family.results import bits_per_byte_of

    return {
        "recipe": family.recipe.name,
        "description": family.recipe.description,
        "parameters": family.recipe.model.parameters,
        "models": list(records),
        "corpora": list(family.corpora),
        "missing": family.missing,
        "bits_per_byte": {model: bits_per_byte_of(record) for model, record in records.items()},
        "tasks": {model: record.scores.to_json() for model, record in records.items()},
        "tokens": {model: record.source.tokens for model, record in records.items()},
        "fingerprints": {model: record.source.fingerprint for model, record in records.items()},
        "seconds": family.seconds,
        "exports": {model: str(folder.relative_to(family.folder)) for model, folder in exports.items()},
        "versions": {name: _version(name) for name in _LIBRARIES},
        "machine": describe_machine(),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
