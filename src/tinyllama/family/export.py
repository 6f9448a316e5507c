"""Export the trained models of a family; reuse exports that are still valid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tinyllama.checkpoint.weights import CheckpointWeights
from tinyllama.corpus.manifest import TRAIN
from tinyllama.errors import ExportError, UserError
from tinyllama.export import FILE_TYPES, ModelInfo, export_gguf, export_model, model_card
from tinyllama.family.evaluate import evaluate_family
from tinyllama.family.prepare import prepare_tokenizer
from tinyllama.family.trained import identity
from tinyllama.files import sha256_json
from tinyllama.layout import averaged
from tinyllama.plan import compile_plan, summarize
from tinyllama.plan.tables import plan_markdown
from tinyllama.record_files import FileRecord, read_record, write_record
from tinyllama.text import listing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tinyllama.checkpoint.format import Checkpoint
    from tinyllama.evaluation.record import EvaluationRecord
    from tinyllama.family.prepare import Prepared
    from tinyllama.family.workspace import Workspace
    from tinyllama.tokenizer.base import Tokenizer


class ExportMarker(FileRecord):
    """The file next to an export: the export's inputs and the result of its check."""

    format: int = 1
    inputs: str
    """Hash of weights, card and tokenizer; the export is reused while it is unchanged."""
    largest_difference: float
    """Largest difference between our logits and transformers' logits."""


def export_family(  # noqa: PLR0913  # the arguments of Family.export, each by name
    work: Workspace,
    checkpoints: dict[str, Checkpoint],
    prepare: Callable[[], Prepared],
    *,
    form: str,
    precision: str | None,
    data: Path,
) -> dict[str, Path]:
    """Export every model in one form: model → folder.

    Args:
        work: the family.
        checkpoints: the models' checkpoints.
        prepare: prepares the family, for the form that reports scores.
        form: see `Family.export`.
        precision: see `Family.export`; None for the form's default.
        data: folder with local copies of the tasks' data, for the form that reports scores.

    Raises:
        UserError: the form is unknown or does not support the precision.
    """
    if form == "gguf":
        return export_gguf_files(work, prepare_tokenizer(work), checkpoints, precision or "F16")
    if form != "hf":
        raise UserError(f"form is {form!r}, but must be hf or gguf")
    if precision is not None:
        raise UserError("Hugging Face folders are in fp32; precision is an option of GGUF files")
    prepared = prepare()
    return export_hugging_face(work, prepared, checkpoints, evaluate_family(work, prepared, checkpoints, data))


def export_hugging_face(
    work: Workspace, prepared: Prepared, checkpoints: dict[str, Checkpoint], records: dict[str, EvaluationRecord]
) -> dict[str, Path]:
    """Export every model as a Hugging Face folder with a model card: model → folder."""
    folders = {}
    for model, checkpoint in checkpoints.items():
        folder = work.layout.export(model)
        card = _card(work, prepared, model, checkpoint, records)
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


def export_gguf_files(
    work: Workspace, tokenizer: Tokenizer, checkpoints: dict[str, Checkpoint], precision: str
) -> dict[str, Path]:
    """Export every model as a GGUF file with its Modelfile: model → folder.

    Raises:
        UserError: GGUF files do not support this precision.
    """
    if (kind := precision.upper()) not in FILE_TYPES:
        raise UserError(f"precision is {precision!r}, but GGUF files are {listing(list(FILE_TYPES))}")
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


def _card(
    work: Workspace,
    prepared: Prepared,
    model: str,
    checkpoint: Checkpoint,
    records: dict[str, EvaluationRecord],
) -> str:
    trained = averaged(model)
    plan = compile_plan(work.recipe, trained if trained in work.recipe.models else None)
    sizes = {name: corpus.tokens(TRAIN) for name, corpus in prepared.corpora.items()}
    return model_card(
        work.recipe,
        model,
        plan_summary=plan_markdown(summarize(plan, work.recipe, sizes)),
        bits_per_byte={name: record.bits_by_text for name, record in records.items()},
        tasks={name: record.scores.fractions for name, record in records.items()},
        tokens=checkpoint.state.tokens,
    )


def _is_current(marker: Path, inputs: str) -> bool:
    """Whether an export was made from these inputs; an export with an unreadable marker is made again."""
    try:
        return read_record(ExportMarker, marker, ExportError, "export again").inputs == inputs
    except (FileNotFoundError, ExportError):
        return False
