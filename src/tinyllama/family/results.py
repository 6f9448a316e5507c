"""Evaluate, sample and export a family's models; what is there and still true is kept."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import torch

from tinyllama.checkpoint.store import checkpoint_store
from tinyllama.checkpoint.weights import CheckpointWeights, load_model, newest_checkpoint
from tinyllama.errors import CorpusError, ModelError
from tinyllama.evaluation.bits import bits_per_byte
from tinyllama.evaluation.scores import Options
from tinyllama.evaluation.tasks import evaluate_tasks
from tinyllama.export import ModelInfo, export_gguf, export_model, model_card
from tinyllama.files import sha256_file, sha256_json, write_json
from tinyllama.inference import Sampling, continue_prompts
from tinyllama.plan import compile_plan, summarize
from tinyllama.plan.tables import plan_markdown
from tinyllama.train.machine import cores
from tinyllama.train.precision import DTYPES

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.checkpoint.format import Checkpoint
    from tinyllama.family.prepare import Prepared
    from tinyllama.family.workspace import Workspace
    from tinyllama.model import Llama
    from tinyllama.tokenizer.base import Tokenizer

_log = logging.getLogger(__name__)
_SAMPLE_TOKENS = 48


def finished(work: Workspace) -> dict[str, Checkpoint]:
    """The last checkpoint of every model that has one.

    Raises:
        ModelError: none has.
    """
    stores = {model: checkpoint_store(work.recipe, work.layout.root, model) for model in work.models}
    trained = [model for model in work.models if stores[model].steps()]
    if not trained:
        name = work.recipe.name
        raise ModelError(f"no model of {name} is trained in {work.layout.root}; run `tinyllama train {name}`")
    return {model: newest_checkpoint(stores[model]) for model in trained}


def evaluate_family(
    work: Workspace, prepared: Prepared, checkpoints: dict[str, Checkpoint], data: Path
) -> dict[str, dict[str, Any]]:
    """Bits per byte on every corpus, and task scores, of every model: model → record."""
    torch.set_num_threads(cores())
    records = {}
    for model, checkpoint in checkpoints.items():
        path = work.layout.record(model)
        inputs = _evaluation_inputs(work, prepared, checkpoint, data)
        record = _recorded(path, inputs)
        if record is None:
            work.progress.say(f"evaluating {model}")
            record = {"model": model, "inputs": inputs, **_evaluate(work, prepared, checkpoint, data)}
            write_json(path, record)
        records[model] = record
    return records


def sample_family(
    work: Workspace, tokenizer: Tokenizer, checkpoints: dict[str, Checkpoint]
) -> dict[str, dict[str, str]]:
    """Continuations of the recipe's prompts: prompt → model → text."""
    path = work.layout.samples
    prompts = work.recipe.evaluation.prompts
    inputs = sha256_json([prompts, {name: _weights(checkpoint) for name, checkpoint in checkpoints.items()}])
    recorded = _recorded(path, inputs)
    if recorded is None:
        texts: dict[str, dict[str, str]] = {prompt: {} for prompt in prompts}
        for model, checkpoint in checkpoints.items():
            weights = load_model(checkpoint, work.recipe.model)
            for prompt in prompts:
                texts[prompt][model] = _continue_prompt(weights, tokenizer, prompt, work.recipe.seed)
        recorded = {"inputs": inputs, "samples": texts}
        write_json(path, recorded)
    samples: dict[str, dict[str, str]] = recorded["samples"]
    return samples


def _continue_prompt(model: Llama, tokenizer: Tokenizer, prompt: str, seed: int) -> str:
    """A short continuation with the model card's sampling options."""
    pieces = continue_prompts(model, tokenizer, [prompt], Sampling(), max_new_tokens=_SAMPLE_TOKENS, seed=seed)
    return "".join(piece for (piece,) in pieces)


def export_family(
    work: Workspace, prepared: Prepared, checkpoints: dict[str, Checkpoint], records: dict[str, dict[str, Any]]
) -> dict[str, Path]:
    """Every model as a Hugging Face folder: model → folder."""
    folders = {}
    for model, checkpoint in checkpoints.items():
        folder = work.layout.export(model)
        card = _card(work, prepared, model, records)
        marker = work.layout.export_marker(model)
        inputs = sha256_json([_weights(checkpoint), card, prepared.tokenizer.sha256])
        recorded = _recorded(marker, inputs)
        if recorded is None or not folder.is_dir():
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
            write_json(marker, {"inputs": inputs, "largest_difference": result.largest_difference})
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


def _evaluate(work: Workspace, prepared: Prepared, checkpoint: Checkpoint, data: Path) -> dict[str, Any]:
    recipe = work.recipe
    rounded = load_model(checkpoint, recipe.model, DTYPES[recipe.precision])
    bits = bits_per_byte(rounded, _measurable(work, prepared), document_masking=recipe.document_masking)
    exact = load_model(checkpoint, recipe.model)
    options = Options(bos=recipe.tokenizer.bos)
    scores = evaluate_tasks(exact, prepared.tokenizer, recipe.evaluation.tasks, data, options)
    window = recipe.model.context
    return {
        "bits_per_byte": bits,
        "bits_per_byte_settings": {"window": window, "stride": window, "precision": recipe.precision},
        "tasks": scores.to_json(),
        "tokens": checkpoint.state.tokens,
        "fingerprint": checkpoint.state.fingerprint,
    }


def _measurable(work: Workspace, prepared: Prepared) -> dict[str, Any]:
    """Corpora whose held-out part has at least a row."""
    kept = {}
    for name, corpus in prepared.corpora.items():
        try:
            corpus.rows("held_out", work.recipe.model.context)
        except CorpusError as error:
            _log.warning("%s", error)
            continue
        kept[name] = corpus
    return kept


def _card(work: Workspace, prepared: Prepared, model: str, records: dict[str, dict[str, Any]]) -> str:
    plan = compile_plan(work.recipe, model if model in work.recipe.variants else None)
    sizes = {name: corpus.tokens("train") for name, corpus in prepared.corpora.items()}
    return model_card(
        work.recipe,
        model,
        plan_summary=plan_markdown(summarize(plan, work.recipe, sizes)),
        bits_per_byte={name: record["bits_per_byte"] for name, record in records.items()},
        tasks={name: record["tasks"] for name, record in records.items()},
        tokens=plan.tokens_after(plan.steps),
    )


def _evaluation_inputs(work: Workspace, prepared: Prepared, checkpoint: Checkpoint, data: Path) -> str:
    """Hash of everything an evaluation depends on."""
    files = sorted(data.glob("*.jsonl")) if data.is_dir() else []
    return sha256_json(
        {
            "weights": _weights(checkpoint),
            "corpora": {name: corpus.sha256 for name, corpus in prepared.corpora.items()},
            "tasks": work.recipe.evaluation.tasks,
            "data": {path.name: sha256_file(path) for path in files},
        }
    )


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
