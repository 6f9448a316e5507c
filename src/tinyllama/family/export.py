"""Export the trained models of a family; an export that is still true is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tinyllama.checkpoint.weights import CheckpointWeights
from tinyllama.corpus.manifest import TRAIN
from tinyllama.errors import ExportError
from tinyllama.export import ModelInfo, export_gguf, export_model, model_card
from tinyllama.family.trained import identity
from tinyllama.files import sha256_json
from tinyllama.plan import compile_plan, summarize
from tinyllama.plan.tables import plan_markdown
from tinyllama.record_files import FileRecord, read_record, write_record

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.checkpoint.format import Checkpoint
    from tinyllama.evaluation.record import EvaluationRecord
    from tinyllama.family.prepare import Prepared
    from tinyllama.family.workspace import Workspace
    from tinyllama.tokenizer.base import Tokenizer


class ExportMarker(FileRecord):
    """What stands beside an export: what it was made of, and how its check went."""

    format: int = 1
    inputs: str
    """Hash of weights, card and tokenizer: the export is kept while it does not change."""
    largest_difference: float
    """Between a logit of ours and of transformers."""


def export_family(
    work: Workspace, prepared: Prepared, checkpoints: dict[str, Checkpoint], records: dict[str, EvaluationRecord]
) -> dict[str, Path]:
    """Every model as a Hugging Face folder: model → folder."""
    folders = {}
    for model, checkpoint in checkpoints.items():
        folder = work.layout.export(model)
        card = _card(work, prepared, model, records)
        marker = work.layout.export_marker(model)
        inputs = sha256_json([identity(checkpoint), card, prepared.tokenizer.sha256])
        if not (_is_current(marker, inputs) and folder.is_dir()):
            work.progress.say(f"exporting {model}")
            marker.unlink(missing_ok=True)
            result = export_model(
                CheckpointWeights(checkpoint),
                folder=folder,
                recipe=work.recipe,
                name=model,
                tokenizer=prepared.tokenizer,
                card=card,
                dtype=torch.float32,
            )
            write_record(marker, ExportMarker(inputs=inputs, largest_difference=result.largest_difference))
        folders[model] = folder
    return folders


def export_family_gguf(
    work: Workspace, tokenizer: Tokenizer, checkpoints: dict[str, Checkpoint], kind: str
) -> dict[str, Path]:
    """Every model as a GGUF file with its Modelfile: model → folder."""
    folders = {}
    for model, checkpoint in checkpoints.items():
        folder = work.layout.export(f"{model}-{kind}-gguf")
        work.progress.say(f"exporting {model}")
        export_gguf(
            CheckpointWeights(checkpoint),
            shape=work.recipe.model,
            tokenizer=tokenizer,
            folder=folder,
            kind=kind,
            about=ModelInfo(f"{work.recipe.name}-{model}", work.recipe.license),
        )
        folders[model] = folder
    return folders


def _card(work: Workspace, prepared: Prepared, model: str, records: dict[str, EvaluationRecord]) -> str:
    plan = compile_plan(work.recipe, model if model in work.recipe.variants else None)
    sizes = {name: corpus.tokens(TRAIN) for name, corpus in prepared.corpora.items()}
    return model_card(
        work.recipe,
        model,
        plan_summary=plan_markdown(summarize(plan, work.recipe, sizes)),
        bits_per_byte={name: record.bits_by_text for name, record in records.items()},
        tasks={name: record.scores.fractions for name, record in records.items()},
        tokens=plan.tokens_after(plan.steps),
    )


def _is_current(marker: Path, inputs: str) -> bool:
    """Whether an export was made of these; one whose marker cannot be read is made again."""
    try:
        return read_record(ExportMarker, marker, ExportError, "export again").inputs == inputs
    except (FileNotFoundError, ExportError):
        return False
