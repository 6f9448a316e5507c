"""The training of one model: what it needs, and the checkpoint it resumes from."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tinyllama.checkpoint.fingerprint import FingerprintInputs, fingerprint_inputs
from tinyllama.checkpoint.format import Checkpoint
from tinyllama.checkpoint.store import CheckpointStore, checkpoint_store
from tinyllama.errors import CheckpointError
from tinyllama.files import write_atomic
from tinyllama.layout import BASE, FamilyLayout
from tinyllama.model.devices import describe_device
from tinyllama.recipe import dump_recipe
from tinyllama.train.ranks import Ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.model import Llama
    from tinyllama.plan import Plan
    from tinyllama.recipe import Recipe
    from tinyllama.train.metrics import Logger

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingRun:
    """The training of one model: the base, or a variant or branch from its fork on."""

    recipe: Recipe
    plan: Plan
    family: Path
    """Folder of the whole family."""
    corpora: Mapping[str, PreparedCorpus]
    tokenizer_sha256: str
    held_out_losses: Callable[[Llama], dict[str, float]]
    """Measures the model on held-out rows; injected, so that training knows no evaluation."""
    watch: list[Logger] = field(default_factory=list)
    """Further receivers of every record, e.g. a progress bar."""
    ranks: Ranks = field(default_factory=Ranks)
    """The processes that train it together."""
    start_sha256: str | None = None
    """Of the imported weights, if the recipe starts from some."""
    auto_precision: bool = False
    """Whether the recipe left the precision to the device."""
    replay_to: int | None = None
    """The step that training ends at to make a checkpoint that was not kept; it records no metrics then."""
    profile: range | None = None
    """Steps, counted from 1, that are profiled; it changes no weights."""

    @property
    def name(self) -> str:
        """`base`, or the name of the variant or branch."""
        return self.plan.variant or BASE

    @property
    def parent(self) -> str:
        """The model that it forks from."""
        return self.recipe.parent(self.name)

    @property
    def last_step(self) -> int:
        """The step that training ends at."""
        return self.plan.steps if self.replay_to is None else self.replay_to

    @property
    def fork_steps(self) -> frozenset[int]:
        """The steps that branches fork at from this model, whose checkpoints stay."""
        forks = [self.recipe.fork_tokens(name) for name in self.recipe.branches_of(self.name)]
        return frozenset(self.plan.steps_reaching(forks))

    def recipes_from(self, step: int) -> list[Recipe]:
        """The recipe with each shape that the model has in the steps after `step`, which differ in their context."""
        stages = self.recipe.line(self.plan.variant).stages[: len(self.plan.stages)]
        recipes = map(self.recipe.in_stage, stages[self.plan.stage[step] :])
        return list({recipe.model.context: recipe for recipe in recipes}.values())

    @property
    def layout(self) -> FamilyLayout:
        """Paths of the family."""
        return FamilyLayout(self.family)

    @property
    def folder(self) -> Path:
        """Folder of the model's metrics, and of its checkpoints or copies of them."""
        return self.layout.model(self.name)

    @property
    def first_step(self) -> int:
        """The step that training begins at: 0, or the fork."""
        return self.plan.fork_step if self.plan.variant else 0

    @property
    def store(self) -> CheckpointStore:
        """Store of the model's checkpoints."""
        return checkpoint_store(self.recipe, self.family, self.name)

    def checkpoint(self, step: int) -> Checkpoint:
        """The checkpoint of a step, verified: at the fork, the parent's.

        Raises:
            CheckpointError: it is damaged or not there.
            StorageError: the URL it is under cannot be reached.
        """
        name = self.parent if step <= self.first_step else self.name
        return checkpoint_store(self.recipe, self.family, name).open(step)

    def fingerprint_inputs(self, step: int) -> FingerprintInputs:
        """What decides the state after `step` steps."""
        hashes = {name: corpus.sha256 for name, corpus in self.corpora.items()}
        return fingerprint_inputs(self.recipe, self.plan, step, hashes, self.tokenizer_sha256, self.start_sha256)

    def refuse_other(self, checkpoint: Checkpoint, where: str) -> None:
        """Reject a checkpoint, found at `where`, of another recipe or of a machine that chose another precision.

        Raises:
            CheckpointError: it is one.
        """
        recorded, precision = checkpoint.state.fingerprint_inputs, self.recipe.precision
        trained_in = recorded.root.get("precision", precision)
        if self.auto_precision and trained_in != precision:
            raise CheckpointError(
                f"{where} was trained in {trained_in}, but precision: auto is {precision} on "
                f"{describe_device(self.ranks.device)}; set precision: {trained_in} in the recipe, or train into "
                "another folder with --run"
            )
        recorded.refuse_change(self.fingerprint_inputs(checkpoint.step), where)


def keep_recipe(family: Path, recipe: Recipe, store: CheckpointStore) -> None:
    """Write a recipe to its family's folder and beside its checkpoints, once these are known to belong to it.

    Raises:
        StorageError: checkpoints cannot be written to their URL.
    """
    path, text = FamilyLayout(family).recipe, dump_recipe(recipe)
    store.begin(text)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text)


def find_start(run: TrainingRun) -> Checkpoint | None:
    """The checkpoint that training resumes from: the newest good one, else the parent's at the fork, else None.

    Raises:
        CheckpointError: it belongs to another recipe, the parent is not finished, or the model that the recipe starts
            from is not imported.
    """
    for found in run.store.newest(run.replay_to):
        if isinstance(found, Checkpoint):
            watched = found.state.spikes
            if run.replay_to is not None and watched is not None and watched.planned != found.step:
                continue  # a spike would need the checkpoint before it, which is gone
            refuse_step_past_end(found, run.plan)
            run.refuse_other(found, str(found.folder))
            return found
        _log.warning("%s; restoring the one before it", found)
    if run.plan.variant is None:
        if run.recipe.start is not None:
            raise CheckpointError(
                f"{run.folder}: the model to start from is not imported yet; run `tinyllama import` first"
            )
        return None
    return _fork(run)


def refuse_step_past_end(checkpoint: Checkpoint, plan: Plan) -> None:
    """Reject a checkpoint of a longer plan.

    Raises:
        CheckpointError: the checkpoint's step is past the plan's last one.
    """
    if checkpoint.step > plan.steps:
        raise CheckpointError(
            f"{checkpoint.folder} is past the end of the plan ({plan.steps:,} steps): the recipe, or a --set that is "
            "left out now, had longer stages. Set them back, or train into another folder with --run"
        )


def _fork(run: TrainingRun) -> Checkpoint:
    """The parent's checkpoint at which a variant or branch forks."""
    parent = checkpoint_store(run.recipe, run.family, run.parent)
    name = parent.name(run.first_step)
    if run.first_step not in parent.steps():
        raise CheckpointError(f"{name}: {run.parent} is not trained up to the fork; train it first, or copy it here")
    checkpoint = parent.open(run.first_step)
    run.refuse_other(checkpoint, name)
    return checkpoint


def is_finished(run: TrainingRun) -> bool:
    """Whether the last checkpoint exists (its recipe is compared when it is opened)."""
    return run.last_step in run.store.steps()
