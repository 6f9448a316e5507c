"""Evaluate, sample and export a family's models; what is there and still true is kept."""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Any

import torch

from tinyllama.checkpoint.store import checkpoint_store
from tinyllama.checkpoint.weights import CheckpointWeights, load_model, newest_checkpoint
from tinyllama.errors import CorpusError, ModelError
from tinyllama.evaluation import legacy
from tinyllama.evaluation.bits import bits_per_byte
from tinyllama.evaluation.catalogue import expand_tasks
from tinyllama.evaluation.record import EXACT, BitsPerByte, Conditions, EvaluationRecord, library_versions
from tinyllama.evaluation.record_files import read_current_record, write_record
from tinyllama.evaluation.scores import EvaluationOptions
from tinyllama.evaluation.task_files import data_hashes
from tinyllama.evaluation.tasks import evaluate_tasks
from tinyllama.export import ModelInfo, export_gguf, export_model, model_card
from tinyllama.files import sha256_file, sha256_json, write_json
from tinyllama.formats.model_source import CheckpointModel
from tinyllama.inference import Sampling, continue_prompts
from tinyllama.layout import FamilyLayout
from tinyllama.plan import compile_plan, summarize
from tinyllama.plan.tables import plan_markdown
from tinyllama.train.machine import cores, describe_machine
from tinyllama.train.precision import DTYPES

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.checkpoint.format import Checkpoint
    from tinyllama.family.family import Family
    from tinyllama.model import Llama

_log = logging.getLogger(__name__)
_SAMPLE_TOKENS = 48


def finished(family: Family) -> dict[str, Checkpoint]:
    """The last checkpoint of every model that has one.

    Raises:
        ModelError: none has.
    """
    stores = {model: checkpoint_store(family.recipe, family.folder, model) for model in family.models}
    trained = [model for model in family.models if stores[model].steps()]
    if not trained:
        name = family.recipe.name
        raise ModelError(f"no model of {name} is trained in {family.folder}; run `tinyllama train {name}`")
    return {model: newest_checkpoint(stores[model]) for model in trained}


def evaluate_family(family: Family, checkpoints: dict[str, Checkpoint], data: Path) -> dict[str, EvaluationRecord]:
    """Bits per byte on every corpus, and task scores, of every model: model → record."""
    torch.set_num_threads(cores())
    records = {}
    for model, checkpoint in checkpoints.items():
        folder = FamilyLayout(family.folder).record(model)
        inputs = _evaluation_inputs(family, checkpoint, data)
        record = read_current_record(folder, inputs)
        if record is None:
            family.progress.say(f"evaluating {model}")
            record = _evaluate(family, model, checkpoint, data, inputs[0])
            write_record(folder, record)
        records[model] = record
    return records


def sample_family(family: Family, checkpoints: dict[str, Checkpoint]) -> dict[str, dict[str, str]]:
    """Continuations of the recipe's prompts: prompt → model → text."""
    path = family.folder / "evaluation" / "samples.json"
    prompts = family.recipe.evaluation.prompts
    inputs = sha256_json([prompts, {name: _weights(checkpoint) for name, checkpoint in checkpoints.items()}])
    recorded = _recorded(path, inputs)
    if recorded is None:
        texts: dict[str, dict[str, str]] = {prompt: {} for prompt in prompts}
        for model, checkpoint in checkpoints.items():
            weights = load_model(checkpoint, family.recipe.model)
            for prompt in prompts:
                texts[prompt][model] = continue_prompt(weights, family, prompt)
        recorded = {"inputs": inputs, "samples": texts}
        write_json(path, recorded)
    samples: dict[str, dict[str, str]] = recorded["samples"]
    return samples


def continue_prompt(model: Llama, family: Family, prompt: str) -> str:
    """A short continuation with the model card's sampling options."""
    pieces = continue_prompts(
        model, family.tokenizer, [prompt], Sampling(), max_new_tokens=_SAMPLE_TOKENS, seed=family.recipe.seed
    )
    return "".join(piece for (piece,) in pieces)


def export_family(
    family: Family, checkpoints: dict[str, Checkpoint], records: dict[str, EvaluationRecord]
) -> dict[str, Path]:
    """Every model as a Hugging Face folder: model → folder."""
    folders = {}
    for model, checkpoint in checkpoints.items():
        folder = family.folder / "exports" / model
        card = _card(family, model, records)
        marker = family.folder / "exports" / f"{model}.json"
        inputs = sha256_json([_weights(checkpoint), card, family.tokenizer.sha256])
        recorded = _recorded(marker, inputs)
        if recorded is None or not folder.is_dir():
            family.progress.say(f"exporting {model}")
            marker.unlink(missing_ok=True)
            result = export_model(
                CheckpointWeights(checkpoint),
                folder=folder,
                recipe=family.recipe,
                name=model,
                tokenizer=family.tokenizer,
                card=card,
                dtype=torch.float32,
            )
            write_json(marker, {"inputs": inputs, "largest_difference": result.largest_difference})
        folders[model] = folder
    return folders


def export_family_gguf(family: Family, checkpoints: dict[str, Checkpoint], kind: str) -> dict[str, Path]:
    """Every model as a GGUF file with its Modelfile: model → folder."""
    folders = {}
    for model, checkpoint in checkpoints.items():
        folder = family.folder / "exports" / f"{model}-{kind}-gguf"
        family.progress.say(f"exporting {model}")
        export_gguf(
            CheckpointWeights(checkpoint),
            shape=family.recipe.model,
            tokenizer=family.tokenizer,
            folder=folder,
            kind=kind,
            about=ModelInfo(f"{family.recipe.name}-{model}", family.recipe.license),
        )
        folders[model] = folder
    return folders


def _evaluate(family: Family, model: str, checkpoint: Checkpoint, data: Path, inputs: str) -> EvaluationRecord:
    began, recipe = time.monotonic(), family.recipe
    source = CheckpointModel(checkpoint, recipe, model, FamilyLayout(family.folder), model)
    window, masking = recipe.model.context, recipe.document_masking
    bits = bits_per_byte(source.load(DTYPES[recipe.precision]), _measurable(family), document_masking=masking)
    options = EvaluationOptions(bos=source.adds_bos)
    scores = evaluate_tasks(source.load(), family.tokenizer, recipe.evaluation.tasks, data, options)
    return EvaluationRecord(
        model=model,
        source=source.identity(),
        scores=scores,
        bits_per_byte=BitsPerByte(bits, window, window, recipe.precision),
        conditions=Conditions(
            tokenizer_sha256=family.tokenizer.sha256,
            dtype=EXACT,
            device="cpu",
            threads=cores(),
            machine=describe_machine(),
            versions=library_versions(),
            seconds=round(time.monotonic() - began, 1),
        ),
        inputs=inputs,
    )


def bits_per_byte_of(record: EvaluationRecord) -> dict[str, float]:
    """Corpus → bits per byte."""
    return record.bits_per_byte.values if record.bits_per_byte else {}


def _measurable(family: Family) -> dict[str, Any]:
    """Corpora whose held-out part has at least a row."""
    kept = {}
    for name, corpus in family.corpora.items():
        try:
            corpus.rows("held_out", family.recipe.model.context)
        except CorpusError as error:
            _log.warning("%s", error)
            continue
        kept[name] = corpus
    return kept


def _card(family: Family, model: str, records: dict[str, EvaluationRecord]) -> str:
    plan = compile_plan(family.recipe, model if model in family.recipe.variants else None)
    sizes = {name: corpus.tokens("train") for name, corpus in family.corpora.items()}
    return model_card(
        family.recipe,
        model,
        plan_summary=plan_markdown(summarize(plan, family.recipe, sizes)),
        bits_per_byte={name: bits_per_byte_of(record) for name, record in records.items()},
        tasks={name: record.scores.fractions for name, record in records.items()},
        tokens=plan.tokens_after(plan.steps),
    )


def _evaluation_inputs(family: Family, checkpoint: Checkpoint, data: Path) -> list[str]:
    """Hashes of everything an evaluation depends on: today's first, then what 4bd9be0 wrote for the same.

    That version covered all `*.jsonl` in the folder of data, and no other file, so its hash counts while the tasks
    have no other.
    """
    tasks = family.recipe.evaluation.tasks
    current, before = data_hashes(expand_tasks(tasks), data), legacy.data_hashes(data)
    return [
        sha256_json(
            {
                "weights": _weights(checkpoint),
                "corpora": {name: corpus.sha256 for name, corpus in family.corpora.items()},
                "tasks": tasks,
                "data": hashes,
            }
        )
        for hashes in ([current, before] if current.keys() <= before.keys() else [current])
    ]


def _weights(checkpoint: Checkpoint) -> str:
    """Identity of a checkpoint."""
    return sha256_file(checkpoint.folder / "manifest.json")


def _recorded(path: Path, inputs: str) -> dict[str, Any] | None:
    """A record on disk, if it was made from the same inputs."""
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if record.get("inputs") == inputs else None
