"""Export the trained models of a family; reuse exports that are still valid."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from tinyllama.checkpoint.weights import CheckpointWeights
from tinyllama.corpus.manifest import HELD_OUT, TRAIN
from tinyllama.corpus.reading import read_texts
from tinyllama.errors import ExportError, UserError
from tinyllama.export import (
    GGUF_TYPES,
    QUANTIZED,
    HeldOutText,
    ModelInfo,
    QuantizationRecord,
    export_gguf,
    export_model,
    model_card,
)
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

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""How the weights of Hugging Face folders may be stored."""


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
    imatrix: bool,
) -> dict[str, Path]:
    """Export every model in one form: model → folder.

    Args:
        work: the family.
        checkpoints: the models' checkpoints.
        prepare: prepares the family, for its scores or its held-out text.
        form: see `Family.export`.
        precision: see `Family.export`; None for the form's default.
        data: folder with local copies of the tasks' data, for the form that reports scores.
        imatrix: see `Family.export`.

    Raises:
        UserError: the form is unknown or does not support the option.
    """
    kind = (precision or {"gguf": "F16", "hf": "F32"}.get(form, "")).upper()
    types = {"gguf": GGUF_TYPES, "hf": tuple(_DTYPES)}.get(form)
    if types is None:
        raise UserError(f"form is {form!r}, but must be hf or gguf")
    if kind not in types:
        what = "GGUF files" if form == "gguf" else "Hugging Face folders"
        raise UserError(f"precision is {precision!r}, but {what} are {listing(list(types))}")
    if imatrix and kind not in QUANTIZED:
        raise UserError(f"imatrix has no effect on {kind}, only on {listing(list(QUANTIZED))}")
    if form == "gguf":
        text = partial(_held_out_text, work, prepare(), imatrix=imatrix) if kind in QUANTIZED else None
        return export_gguf_files(work, prepare_tokenizer(work), checkpoints, kind, text)
    prepared = prepare()
    records = evaluate_family(work, prepared, checkpoints, data)
    return export_hugging_face(work, prepared, checkpoints, records, kind)


def export_hugging_face(
    work: Workspace,
    prepared: Prepared,
    checkpoints: dict[str, Checkpoint],
    records: dict[str, EvaluationRecord],
    kind: str = "F32",
) -> dict[str, Path]:
    """Export every model as a Hugging Face folder with a model card, in a type of `_DTYPES`: model → folder."""
    folders = {}
    for model, checkpoint in checkpoints.items():
        name = model if kind == "F32" else f"{model}-{kind}"
        folder = work.layout.export(name)
        card = _card(work, prepared, model, checkpoint, records)
        marker = work.layout.export_marker(name)
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
                shape=work.recipe.shape_at(averaged(model), checkpoint.state.tokens),
                dtype=_DTYPES[kind],
            )
            write_record(marker, ExportMarker(inputs=inputs, largest_difference=result.largest_difference))
        folders[model] = folder
    return folders


def export_gguf_files(
    work: Workspace,
    tokenizer: Tokenizer,
    checkpoints: dict[str, Checkpoint],
    kind: str,
    text: Callable[[], HeldOutText] | None,
) -> dict[str, Path]:
    """Export every model as a GGUF file with its Modelfile: model → folder.

    Args:
        work: the family.
        tokenizer: the family's.
        checkpoints: the models' checkpoints.
        kind: one of `GGUF_TYPES`.
        text: opens the text that quantized models are measured on; None for other types.
    """
    folders = {}
    for model, checkpoint in checkpoints.items():
        folder = work.layout.export(f"{model}-{kind}-gguf")
        work.progress.say(f"exporting {model}")
        result = export_gguf(
            CheckpointWeights(checkpoint),
            shape=work.recipe.shape_at(averaged(model), checkpoint.state.tokens),
            tokenizer=tokenizer,
            folder=folder,
            kind=kind,
            about=ModelInfo(f"{work.recipe.name}-{model}", work.recipe.license),
            text=None if text is None else text(),
        )
        if isinstance(result, QuantizationRecord) and result.warning:
            work.progress.say(f"note: {model}: {result.warning}")
        folders[model] = folder
    return folders


def _held_out_text(work: Workspace, prepared: Prepared, *, imatrix: bool) -> HeldOutText:
    """The held-out documents of all corpora, read as far as they are needed."""
    texts = {
        name: ((document.text, document.bytes) for document in read_texts(corpus, prepared.tokenizer, HELD_OUT))
        for name, corpus in prepared.corpora.items()
    }
    return HeldOutText(texts, bos=work.recipe.tokenizer.bos, importance=imatrix)


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
        corpora={name: corpus.manifest for name, corpus in prepared.corpora.items()},
    )


def _is_current(marker: Path, inputs: str) -> bool:
    """Whether an export was made from these inputs; an export with an unreadable marker is made again."""
    try:
        return read_record(ExportMarker, marker, ExportError, "export again").inputs == inputs
    except (FileNotFoundError, ExportError):
        return False
