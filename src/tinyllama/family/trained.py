"""The trained models of a family."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tinyllama.checkpoint.fingerprint import fingerprint_inputs
from tinyllama.checkpoint.format import MANIFEST
from tinyllama.checkpoint.store import checkpoint_store
from tinyllama.checkpoint.weights import newest_checkpoint
from tinyllama.errors import ModelError
from tinyllama.evaluation.record import EXACT
from tinyllama.files import sha256_file
from tinyllama.layout import BASE, average_of
from tinyllama.plan import compile_plan
from tinyllama.recipe.schema import AUTO
from tinyllama.train.average import averaged_steps
from tinyllama.train.run import refuse_step_past_end

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tinyllama.checkpoint.format import Checkpoint
    from tinyllama.family.workspace import Workspace
    from tinyllama.plan import Plan
    from tinyllama.recipe import Recipe


def finished(work: Workspace) -> dict[str, Checkpoint]:
    """The last checkpoint of every trained model, and of the average of its weights if the recipe has one.

    Raises:
        ModelError: no model has a checkpoint.
        CheckpointError: a model was trained with another recipe; the message names the first key that differs.
    """
    stores = {model: checkpoint_store(work.recipe, work.layout.root, model) for model in work.models}
    trained = [model for model in work.models if stores[model].steps()]
    if not trained:
        name = work.recipe.name
        raise ModelError(f"no model of {name} is trained in {work.layout.root}; run `tinyllama train {name}`")
    checkpoints = {model: newest_checkpoint(stores[model]) for model in trained}
    recipe = as_trained(work, checkpoints).recipe
    found: dict[str, Checkpoint] = {}
    for model, checkpoint in checkpoints.items():
        plan = compile_plan(recipe, None if model == BASE else model)
        _refuse_other_recipe(recipe, plan, checkpoint)
        found[model] = checkpoint
        store = checkpoint_store(recipe, work.layout.root, average_of(model))
        steps = averaged_steps(recipe, plan)  # another average is not that of the recipe and these weights
        if steps and checkpoint.step in store.steps() and store.state(checkpoint.step).mean_of == steps:
            found[average_of(model)] = store.open(checkpoint.step)
    return found


def as_trained(work: Workspace, checkpoints: Mapping[str, Checkpoint]) -> Workspace:
    """The family with the precision that its models were trained in, where the recipe left that to the device."""
    recorded = [checkpoint.state.fingerprint_inputs.root for checkpoint in checkpoints.values()]
    precisions = [inputs["precision"] for inputs in recorded if "precision" in inputs]  # an import has none
    if work.recipe.precision != AUTO:
        return work
    return replace(work, recipe=work.recipe.in_precision(precisions[0] if precisions else EXACT))


def _refuse_other_recipe(recipe: Recipe, plan: Plan, checkpoint: Checkpoint) -> None:
    """Compare the recipe's keys with those that the model was trained with.

    Hashes of corpora, tokenizer and imported weights are not compared, since nothing need be prepared yet.
    """
    refuse_step_past_end(checkpoint, plan)
    recorded = checkpoint.state.fingerprint_inputs
    corpora = {name: recorded.root.get(f"corpora.{name}") for name in recipe.corpora}
    tokenizer, start = recorded.root["tokenizer"], recorded.start_weights
    recorded.refuse_change(
        fingerprint_inputs(recipe, plan, checkpoint.step, corpora, tokenizer, start), str(checkpoint.folder)
    )


def identity(checkpoint: Checkpoint) -> str:
    """SHA-256 of a checkpoint's manifest, which holds the hashes of its files."""
    return sha256_file(checkpoint.folder / MANIFEST)
