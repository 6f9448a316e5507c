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


def evaluate_family(family: Family, checkpoints: dict[str, Checkpoint], data: Path) -> dict[str, dict[str, Any]]:
    """Bits per byte on every corpus, and task scores, of every model: model → record."""
    torch.set_num_threads(cores())
    records = {}
    for model, checkpoint in checkpoints.items():
        path = family.folder / "evaluation" / f"{model}.json"
        inputs = _evaluation_inputs(family, checkpoint, data)
        record = _recorded(path, inputs)
        if record is None:
            family.progress.say(f"evaluating {model}")
            record = {"model": model, "inputs": inputs, **_evaluate(family, checkpoint, data)}
            write_json(path, record)
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
    family: Family, checkpoints: dict[str, Checkpoint], records: dict[str, dict[str, Any]]
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


def _evaluate(family: Family, checkpoint: Checkpoint, data: Path) -> dict[str, Any]:
    recipe = family.recipe
    rounded = load_model(checkpoint, recipe.model, DTYPES[recipe.precision])
    bits = bits_per_byte(rounded, _measurable(family), document_masking=recipe.document_masking)
    exact = load_model(checkpoint, recipe.model)
    options = Options(bos=recipe.tokenizer.bos)
    scores = evaluate_tasks(exact, family.tokenizer, recipe.evaluation.tasks, data, options)
    window = recipe.model.context
    return {
        "bits_per_byte": bits,
        "bits_per_byte_settings": {"window": window, "stride": window, "precision": recipe.precision},
        "tasks": scores.to_json(),
        "tokens": checkpoint.state["tokens"],
        "fingerprint": checkpoint.state["fingerprint"],
    }


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


def _card(family: Family, model: str, records: dict[str, dict[str, Any]]) -> str:
    plan = compile_plan(family.recipe, model if model in family.recipe.variants else None)
    sizes = {name: corpus.tokens("train") for name, corpus in family.corpora.items()}
    return model_card(
        family.recipe,
        model,
        plan_summary=plan_markdown(summarize(plan, family.recipe, sizes)),
        bits_per_byte={name: record["bits_per_byte"] for name, record in records.items()},
        tasks={name: record["tasks"] for name, record in records.items()},
        tokens=plan.tokens_after(plan.steps),
    )


def _evaluation_inputs(family: Family, checkpoint: Checkpoint, data: Path) -> str:
    """Hash of everything an evaluation depends on."""
    files = sorted(data.glob("*.jsonl")) if data.is_dir() else []
    return sha256_json(
        {
            "weights": _weights(checkpoint),
            "corpora": {name: corpus.sha256 for name, corpus in family.corpora.items()},
            "tasks": family.recipe.evaluation.tasks,
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
