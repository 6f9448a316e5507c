"""Train the rungs of a ladder one by one, fit the law, and compare it with the recipe's own model if it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinyllama.design.scaling_fit import refuse_diverged
from tinyllama.errors import CheckpointError, ModelError, StorageError
from tinyllama.folders import FolderKind, claim
from tinyllama.ladder.page import write_page
from tinyllama.ladder.record import LadderRecord, PointRecord, begun, fitted, trained
from tinyllama.ladder.small_models import mean_loss, train_small
from tinyllama.plan import compile_plan
from tinyllama.record_files import holds_record, write_record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tinyllama.checkpoint.format import Checkpoint
    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.design.rungs import Goal, Rung
    from tinyllama.family import Family
    from tinyllama.family.prepare import Prepared
    from tinyllama.recipe.training import Shares

RECORD, FIGURE, PAGE = "ladder.json", "ladder.svg", "ladder.html"
_RUNGS = "rung-*"


@dataclass(frozen=True)
class Climbed:
    """A finished ladder."""

    record: LadderRecord
    page: Path
    """Its page; beside it are ladder.json, ladder.svg, and the family of each rung."""


def climb(family: Family, goal: Goal, rungs: Sequence[Rung], folder: Path, compute: float) -> Climbed:
    """Train what is missing of a ladder, and predict.

    The text is prepared in the family of the recipe itself, and the rungs have it as hard links where the file system
    has them. Every rung is a family of its own, so an interrupted ladder resumes where it was.

    Args:
        family: the recipe's, which need not be trained.
        goal: the model that is predicted.
        rungs: from the smallest.
        folder: of the ladder.
        compute: of all rungs, as a part of the model's; for the record.

    Raises:
        UserError: the folder holds somebody else's file.
        CorpusError: a rung has another text than the family.
        PlanError: a rung diverged.
        CheckpointError: a rung was trained for another recipe, or for another size of the ladder.
        Interrupted: a signal stopped training; the state was saved first.
    """
    claim(folder, FolderKind("a ladder", (RECORD, FIGURE, PAGE, _RUNGS), _is_ladder))
    prepared = family.prepare()
    prepared.require(family.recipe, goal.model)
    record, checkpoint = begun(goal, rungs, compute), _finished(family, goal)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / RECORD).exists():
        write_record(folder / RECORD, record)
    points: list[PointRecord] = []
    for number, rung in enumerate(rungs, 1):
        family.work.progress.say(
            f"{rung.name} ({number} of {len(rungs)}): {rung.shape.parameters:,} parameters, "
            f"{rung.trained_tokens:,} tokens"
        )
        points += _train(family, rung, folder, goal.shares, prepared)
    measured = None if checkpoint is None else _measured(family, goal, checkpoint, prepared.corpora)
    record = fitted(record, points, measured)
    write_record(folder / RECORD, record)
    write_page(record, folder / FIGURE, folder / PAGE)
    return Climbed(record, folder / PAGE)


def _is_ladder(folder: Path) -> bool:
    return holds_record(LadderRecord, folder / RECORD)


def _train(family: Family, rung: Rung, folder: Path, shares: Shares, prepared: Prepared) -> list[PointRecord]:
    """Train and measure the branches of a rung, shortest first.

    Raises:
        PlanError: one of them diverged.
    """
    losses = train_small(family, rung, folder, shares, prepared)
    points = [
        PointRecord(
            rung=rung.name,
            model=branch,
            parameters=rung.shape.parameters,
            tokens=tokens,
            loss=losses[branch],
        )
        for branch, tokens in rung.ends.items()
    ]
    refuse_diverged(trained(points))
    return points


def _finished(family: Family, goal: Goal) -> Checkpoint | None:
    """The last checkpoint of the predicted model; None if its training is not finished, or of another recipe."""
    try:
        checkpoint = family.finished().get(goal.model)
    except ModelError:  # nothing is trained
        return None
    except (CheckpointError, StorageError) as error:
        family.work.progress.say(f"{goal.model}, which is not measured: {error}")
        return None
    return None if checkpoint is None or checkpoint.step < compile_plan(goal.recipe, goal.model).steps else checkpoint


def _measured(family: Family, goal: Goal, checkpoint: Checkpoint, corpora: Mapping[str, PreparedCorpus]) -> float:
    """The held-out loss of the predicted model."""
    from tinyllama.family.evaluate import bits_of_model  # imports torch
    from tinyllama.family.trained import as_trained

    work = as_trained(family.work, {goal.model: checkpoint})
    family.work.progress.say(f"measuring {goal.model}")
    used = {corpus: corpora[corpus] for corpus, share in goal.shares.items() if share}
    bits = bits_of_model(work, used, goal.model, checkpoint)
    return mean_loss(bits.values, goal.shares, corpora)
