"""Train the models of a family."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tinyllama.checkpoint.store import checkpoint_store
from tinyllama.errors import UserError
from tinyllama.evaluation.bits import held_out_losses
from tinyllama.family.background import BackgroundEvaluation
from tinyllama.family.corpora import Trained
from tinyllama.family.import_model import import_model
from tinyllama.layout import BASE
from tinyllama.model.devices import best_precision, describe_device, device_count, free_memory
from tinyllama.plan import compile_plan
from tinyllama.recipe.schema import AUTO
from tinyllama.train.import_start import imported_sha256
from tinyllama.train.profile import profile_name
from tinyllama.train.ranks import Ranks
from tinyllama.train.run import TrainingRun, is_finished
from tinyllama.train.trainer import train

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyllama.checkpoint.format import Checkpoint
    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.family.prepare import Prepared
    from tinyllama.family.workspace import Workspace
    from tinyllama.model import Llama
    from tinyllama.train.metrics import Logger


def training_run(work: Workspace, prepared: Prepared, model: str) -> TrainingRun:
    """The run that trains a model: the base, or a variant or branch starting at its fork.

    Raises:
        SourceError: a corpus it needs is unavailable.
    """
    auto, ranks = work.recipe.precision == AUTO, work.ranks or Ranks(device=work.device)
    recipe = work.recipe.in_precision(best_precision(ranks.device)) if auto else work.recipe
    prepared.require(recipe, model)

    corpora = _corpora(work, prepared, model)

    def losses(trained: Llama) -> dict[str, float]:
        rows, masking = recipe.evaluation.rows, recipe.document_masking
        return held_out_losses(trained, corpora, rows=rows, document_masking=masking)

    plan = compile_plan(recipe, model)
    place = f"{recipe.models.index(model) + 1} of {len(recipe.models)}"
    watch: list[Logger] = [work.progress.training(model, plan, place)]
    if recipe.evaluation.tasks_every is not None or recipe.evaluation.samples_every is not None:
        watch.append(BackgroundEvaluation(work.layout.model(model), recipe.evaluation, work.progress.say))
    return TrainingRun(
        recipe=recipe,
        plan=plan,
        family=work.layout.root,
        corpora=corpora,
        tokenizer_sha256=prepared.tokenizer.sha256,
        start_sha256=imported_sha256(recipe, work.layout.root) if recipe.start is not None else None,
        held_out_losses=losses,
        watch=watch,
        ranks=ranks,
        auto_precision=auto,
    )


def _corpora(work: Workspace, prepared: Prepared, model: str) -> dict[str, PreparedCorpus]:
    """The corpora that a model is trained on; says which of them have a newer preparation."""
    if not prepared.versions:
        return prepared.corpora
    corpora = prepared.corpora_for(Trained(work).corpora_of(model))
    for name, versions in prepared.versions.items():
        if corpora[name] is not versions[-1]:
            work.progress.say(
                f"{model}: its checkpoints were trained on {corpora[name].folder}, so it stays with that; new models "
                f"are trained on {versions[-1].folder}"
            )
    return corpora


def train_model(work: Workspace, prepared: Prepared, model: str, profile: range | None = None) -> Checkpoint:
    """Train a model to the end, resuming from its last checkpoint; import the model that the recipe starts from.

    Args:
        work: the family.
        prepared: its corpora and tokenizer.
        model: `base`, or the name of the variant or branch.
        profile: steps, counted from 1, that are profiled if the model still has to do them.

    Returns:
        The model's last checkpoint.

    Raises:
        SourceError: a corpus it needs is unavailable.
        Interrupted: a signal stopped training; the state was saved first.
        TrainingError, CheckpointError, StorageError: see `tinyllama.train.trainer.train`.
    """
    if work.recipe.start is not None:
        ranks = work.ranks or Ranks()
        with ranks.phase("the import of the model to start from; run `tinyllama import` before training"):
            ranks.run_on_rank0(lambda: _import_missing(work, prepared))
    run = replace(training_run(work, prepared, model), profile=_own_steps(work, model, profile))
    if model in work.recipe.branches:
        _replay_to_fork(work, prepared, run)
    if is_finished(run):
        work.progress.say(f"{model}: already trained")
    else:
        _say_device(work, run)
        if run.ranks.watch is not None:
            run.ranks.watch.record_in(run.folder)
        compiles = "; the first step compiles, which can take a minute" if work.recipe.hardware.compile else ""
        doing = "resuming" if work.layout.metrics(model).exists() else "training"
        work.progress.say(f"{doing} {model}{compiles}")
    with work.timed(f"train {model}"):
        trained = train(run)
    if run.profile is not None and any(work.layout.profiles(model).glob(f"{profile_name(run.profile)}.*")):
        work.progress.say(f"{model}: the profile of its steps is in {work.layout.profiles(model)}")
    free_memory(run.ranks.device)
    return trained


def refuse_no_step(work: Workspace, models: Sequence[str], steps: range) -> None:
    """Reject steps to profile that no model has.

    Raises:
        UserError: no model trains them.
    """
    if not any(_own_steps(work, model, steps) for model in models):
        spans = [
            f"{model} steps {span.start} to {span.stop - 1}" for model in models for span in [_steps_of(work, model)]
        ]
        raise UserError(
            f"--profile {steps.start}..{steps.stop - 1}: no model that is to be trained has these steps; "
            f"{', '.join(spans)}"
        )


def _own_steps(work: Workspace, model: str, steps: range | None) -> range | None:
    """Those of some steps that a model does itself; None for none."""
    if steps is None:
        return None
    own = _steps_of(work, model)
    return range(max(steps.start, own.start), min(steps.stop, own.stop)) or None


def _steps_of(work: Workspace, model: str) -> range:
    plan = compile_plan(work.recipe, model)
    return range((plan.fork_step if plan.variant else 0) + 1, plan.steps + 1)


def _replay_to_fork(work: Workspace, prepared: Prepared, run: TrainingRun) -> None:
    """Make the checkpoint that a branch forks at, if its parent is finished but did not keep it."""
    with run.ranks.phase(f"the search for the checkpoint that {run.name} forks at"):
        replayed = run.ranks.run_on_rank0(lambda: work.replay(run.name))
    if replayed:
        first, last = replayed.start + 1, replayed.stop
        work.progress.say(
            f"{run.name}: steps {first} to {last} of {run.parent} are replayed, since none was kept there"
        )
        parent = training_run(work, prepared, run.parent)
        train(replace(parent, replay_to=last, watch=parent.watch[:1]))  # the progress, and no evaluation
        free_memory(run.ranks.device)


def _say_device(work: Workspace, run: TrainingRun) -> None:
    """Say what trains, in which precision if the device decides, and how to use cards that would be idle."""
    device = run.ranks.device
    text, count = f"device: {describe_device(device)}", device_count(device)
    if work.ranks is not None and work.ranks.count > 1:
        text = f"devices: {work.ranks.count} ranks, the first on {describe_device(device)}"
    elif count > 1:
        text += f", one of {count}; to use all: torchrun --nproc-per-node {count} -m -- tinyllama train RECIPE"
    precision, best = run.recipe.precision, best_precision(device)
    if run.auto_precision:
        text += f"; precision: {precision}"
    elif precision == "bf16" != best:
        text += f"; it multiplies faster in {best} than in the recipe's bf16"
    work.progress.say(text)


def _import_missing(work: Workspace, prepared: Prepared) -> None:
    """Import the model that the recipe starts from, unless this was done before."""
    if not checkpoint_store(work.recipe, work.layout.root, BASE).steps():
        import_model(work.recipe, work.layout, lambda: prepared.tokenizer, work.progress)
