"""Checks of the machine: disk, memory, where checkpoints are stored, and who is notified."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tinyllama.checkpoint.retention import Retention
from tinyllama.checkpoint.store import checkpoint_store
from tinyllama.errors import StorageError, TrainingError, UserError
from tinyllama.family.preflight.situation import Finding
from tinyllama.layout import BASE
from tinyllama.plan.hardware import checkpoint_bytes, memory_per_gpu
from tinyllama.prepare.disk_space import bytes_needed
from tinyllama.train.alerts import receiver

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tinyllama.family.preflight.situation import Phase, Situation

_EXPORTED = 4
"""Bytes of a weight in an exported Hugging Face folder."""

_MAKE_ROOM = "make room, put the family on another disk (--run), or lower checkpoints.keep"


def check_checkpoint_url(situation: Situation) -> Iterator[Finding]:
    """The URL for checkpoints is of a known file system and can be listed."""
    if situation.recipe.checkpoints.url is None:
        return
    try:
        checkpoint_store(situation.recipe, situation.layout.root, BASE).steps()
    except UserError as error:
        yield situation.needed_by("train", str(error))


def check_receiver(situation: Situation) -> Iterator[Finding]:
    """The receiver of messages has a URL; a job may have its variable where this machine has none."""
    try:
        receiver(situation.recipe.logging.notify)
    except TrainingError as error:
        yield Finding(str(error), is_fault=situation.here and "train" in situation.phases)


def check_disk(situation: Situation) -> Iterator[Finding]:
    """The disk has room for what the command writes, and for what later commands do."""
    free = shutil.disk_usage(_existing(situation.layout.root)).free
    certain, filtered = _corpora(situation)
    needs: dict[Phase, int] = {
        "prepare": certain,
        "train": sum(_checkpoints(situation, model) for model in situation.models),
        "report": sum(_export(situation, model) for model in situation.models),
    }
    sum_so_far = 0
    for phase, size in needs.items():
        sum_so_far += size
        if sum_so_far > free:
            text = f"{_free(situation, free)}, and the family needs at least {_parts(needs)}; {_MAKE_ROOM}"
            yield situation.needed_by(phase, text)
            return
    if sum_so_far + filtered > free:
        needs["prepare"] += filtered
        text = (
            f"{_free(situation, free)}, and the family may need {_parts(needs)} if `where` selects much; {_MAKE_ROOM}"
        )
        yield Finding(text, is_fault=False)


def _free(situation: Situation, free: int) -> str:
    return f"{situation.layout.root}: {free / 1e9:,.1f} GB are free"


def _parts(needs: Mapping[Phase, int]) -> str:
    parts = zip(("corpora", "checkpoints", "exports"), needs.values(), strict=True)
    return " + ".join(f"{part / 1e9:,.1f} GB ({name})" for name, part in parts)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _corpora(situation: Situation) -> tuple[int, int]:
    """Bytes that corpora which are not prepared need: those read whole, and those that a `where` selects from."""
    certain = filtered = 0
    for name, survey in situation.surveys.items():
        corpus = situation.recipe.corpora[name]
        size = bytes_needed(corpus, survey.tasks)
        if any(source.where for source in corpus.sources):
            filtered += size
        else:
            certain += size
    return certain, filtered


def _checkpoints(situation: Situation, model: str) -> int:
    """Bytes of the checkpoints that a model still has to write."""
    recipe = situation.recipe.line(model)
    try:
        store = checkpoint_store(recipe, situation.layout.root, model)
    except StorageError:  # which another check reports
        return 0
    local = situation.layout.checkpoints(model)
    written = len(list(local.glob("step-*"))) if local.is_dir() else 0
    fork, permanent = recipe.fork_index, recipe.checkpoints.permanent
    stages = recipe.stages[:fork] if model == BASE else recipe.stages[fork:]
    if not stages:
        return 0
    begin = recipe.stages[fork - 1].until if model != BASE and fork else recipe.start_tokens
    tokens = stages[-1].until - begin
    step = min(recipe.batch_sequences(stage) * recipe.context(stage) for stage in stages)  # no two are nearer
    averaged = 0 if recipe.average is None else recipe.average.last or 0
    lasting = tokens // max(permanent, step) if permanent else 0
    always = len(stages) + len(situation.recipe.branches_of(model)) + lasting + averaged
    most = always + tokens // max(recipe.checkpoints.every, step)
    kept = min(store.on_disk(Retention(recipe.checkpoints.keep, frozenset(range(always)))), most)
    average = 0 if recipe.average is None else 4 * recipe.model.parameters
    return max(0, kept - written) * checkpoint_bytes(recipe) + average


def _export(situation: Situation, model: str) -> int:
    """Bytes of a model's export, unless it was made."""
    return 0 if situation.layout.export(model).is_dir() else _EXPORTED * situation.recipe.model.parameters


def check_device(situation: Situation) -> Iterator[Finding]:
    """The device is there, and has memory for the state of training, and probably for a micro-batch."""
    if not situation.here or "train" not in situation.phases:
        return
    from tinyllama.model.devices import choose_device, describe_device, memory_of  # imports torch

    recipe = situation.recipe
    try:
        device = choose_device(recipe.hardware.device)
    except UserError as error:
        yield Finding(f"hardware.device: {error}")
        return
    shared_by = situation.per_node if device.type == "cpu" else 1
    if (memory := memory_of(device)) is None:
        return
    there, where = memory // shared_by, describe_device(device)
    # Except on CPUs, training chooses from memory what is not stated.
    chosen = device.type != "cpu" and not isinstance(recipe.hardware.micro_batch, int)
    sequences = 1 if chosen else recipe.micro_batch
    stages = [stage for model in recipe.models for stage in recipe.line(model).stages]
    shapes = {staged.model.context: staged for staged in (recipe, *map(recipe.in_stage, stages))}
    try:
        sharded_over = recipe.hardware.sharded_over(situation.ranks, situation.per_node)
        needed = max(
            (
                memory_per_gpu(staged, sharded_over, there, recipe.rows_of_pass(sequences, context))
                for context, staged in shapes.items()
            ),
            key=lambda memory: memory.total,
        )
    except UserError:  # which another check reports
        return
    state = needed.weights + needed.gradients + needed.moments
    if state > there:
        yield Finding(
            f"memory: weights, gradients and moments need {state / 2**30:,.1f} GiB, and {where} has "
            f"{there / 2**30:,.1f} GiB; make model smaller, or train on more GPUs (hardware.shard)"
        )
    elif needed.total > there:
        yield Finding(
            f"memory: training is predicted to need {needed.total / 2**30:,.1f} GiB with hardware.micro_batch: "
            f"{sequences}, and {where} has {there / 2**30:,.1f} GiB; if it ends for lack of memory, lower "
            "hardware.micro_batch or set hardware.activation_checkpointing: true",
            is_fault=False,
        )
