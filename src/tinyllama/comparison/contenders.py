"""The models of a comparison, and what `tinyllama evaluate` recorded of them."""

from __future__ import annotations

import shlex
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tinyllama.errors import EvaluationError
from tinyllama.evaluation.answers import read_answers
from tinyllama.evaluation.record import EXACT
from tinyllama.evaluation.record_folder import ANSWERS, RECORD, read_record
from tinyllama.files import sha256_json
from tinyllama.formats.model_source import CheckpointModel
from tinyllama.formats.open import open_model
from tinyllama.layout import FamilyLayout, average_of
from tinyllama.paths import expand_path
from tinyllama.recipe import load_recipe, shipped_recipes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyllama.evaluation.answers import Answer
    from tinyllama.evaluation.record import EvaluationRecord, TextBits
    from tinyllama.evaluation.scores import TaskScore
    from tinyllama.formats.identity import ModelIdentity

_EVALUATION = FamilyLayout(Path()).evaluation.name
Recorded = tuple["EvaluationRecord", Path]
"""A record and its folder."""


@dataclass(frozen=True)
class Contender:
    """One model, with its answers from all records of its weights."""

    name: str
    """What the comparison calls it."""
    model: str
    """What `tinyllama evaluate` can open."""
    corpora: list[Path] = field(default_factory=list)
    """Prepared corpora of its family."""
    recipe: str | None = None
    """Hash of all that decides its weights but the seed; None if it is no checkpoint of ours."""
    tasks: dict[str, TaskScore] = field(default_factory=dict)
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    """By task; a task of an early record may have none."""
    bits: dict[str, float] = field(default_factory=dict)
    """Bits per byte by text, which is known by the last part of its path."""
    texts: dict[str, TextBits] = field(default_factory=dict)
    """By text; empty in early records."""
    precision: str = EXACT
    """In which the tasks were scored."""


def find_contenders(names: Sequence[str], out: Path) -> list[Contender]:
    """Find models and their records.

    Args:
        names: of models, see `open_model`; of evaluation records; of families, which stand for all their trained
            models, the first variant or branch before the others.
        out: folder of the records of single models.

    Raises:
        ModelError: there is no such model.
        EvaluationError: a model has no record, or one cannot be read.
    """
    found: list[Contender] = []
    for name in names:
        path = _family(name)
        if record := _record(expand_path(name)):
            found.append(merged(Contender(name, record.model), [(record, expand_path(name))]))
        elif path is None:
            found.append(_open(name, name, out))
        else:
            models = _trained(path)
            found += [
                _open(model if len(names) == 1 else f"{name}/{model}", str(path.model(model)), out) for model in models
            ]
    if missing := [contender.model for contender in found if not contender.bits and not contender.tasks]:
        raise EvaluationError(
            f"{', '.join(missing)}: no evaluation record of these weights is there; run "
            f"`{evaluate_command(found, missing)}`, then compare again"
        )
    return found


def evaluate_command(contenders: Sequence[Contender], models: Sequence[str], tasks: Sequence[str] = ()) -> str:
    """The command that measures models on tasks and on the texts of all families in the comparison."""
    corpora = dict.fromkeys(path for contender in contenders for path in contender.corpora)
    texts = [word for path in corpora for word in ("--text", str(path))]
    return shlex.join(["tinyllama", "evaluate", *models, "--tasks", ",".join(tasks) or "commonsense", *texts])


def _record(path: Path) -> EvaluationRecord | None:
    """The record in a folder, or that which an earlier version wrote beside the place of a model's folder."""
    return read_record(path) if (path / RECORD).is_file() or path.parent.name == _EVALUATION else None


def _family(name: str) -> FamilyLayout | None:
    """The family that a name stands for: its folder, or its recipe."""
    layout = FamilyLayout(expand_path(name))
    if layout.recipe.is_file():
        return layout
    if name in shipped_recipes() or name.endswith((".yaml", ".yml")):
        return FamilyLayout(Path("runs") / load_recipe(name).name)
    return None


def _trained(family: FamilyLayout) -> list[str]:
    """Models of a family that have checkpoints, first the variant or branch that the report compares others with."""
    base, *others = load_recipe(str(family.recipe)).models
    names = [name for model in (*others[:1], base, *others[1:]) for name in (model, average_of(model))]
    return [name for name in names if family.checkpoints(name).is_dir()]


def _open(name: str, model: str, out: Path) -> Contender:
    opened, found = open_model(model), Contender(name, model)
    folders = sorted(path.parent for path in out.glob(f"*/{RECORD}"))
    if isinstance(opened, CheckpointModel):
        layout, recipe = opened.family, opened.recipe
        corpora = [versions[-1] for corpus in recipe.corpora if (versions := layout.corpus_versions(corpus))]
        state = opened.checkpoint.state
        decides = {key: value for key, value in state.fingerprint_inputs.root.items() if key != "seed"}
        found = replace(found, corpora=corpora, recipe=sha256_json([decides, opened.model, state.step]))
        folders += [layout.record(opened.model), *sorted(layout.scores_by_tokens(opened.model).glob("*"))]
    identity = opened.identity()
    records = [(record, folder) for folder in folders if (record := read_record(folder)) and _is_of(record, identity)]
    return merged(found, records)


def _is_of(record: EvaluationRecord, identity: ModelIdentity) -> bool:
    """Whether a record is of these weights; early records of families do not state their hash."""
    source = record.source
    if source.sha256 is None:
        return (source.fingerprint, source.tokens) == (identity.fingerprint, identity.tokens) != (None, None)
    return (source.kind, source.sha256) == (identity.kind, identity.sha256)


def merged(model: Contender, records: Sequence[Recorded]) -> Contender:
    """The model with its records in one precision, fp32 where there is one: of each task the most answers."""
    precisions = {_dtype(record) for record, _ in records} or {EXACT}
    precision = EXACT if EXACT in precisions else min(precisions)
    found = replace(model, precision=precision)
    for record, folder in records:
        if _dtype(record) != precision:
            continue
        answers = defaultdict(list)
        for answer in read_answers(folder / ANSWERS) if (folder / ANSWERS).is_file() else []:
            answers[answer.task].append(answer)
        for task, score in record.scores.measured.items():
            if task not in found.tasks or len(answers[task]) > len(found.answers.get(task, [])):
                found.tasks[task], found.answers[task] = score, answers[task]
        for path, value in record.bits_by_text.items():
            text, measured = Path(path).name, record.bits_per_byte and record.bits_per_byte.texts.get(path)
            if measured:
                found.texts[text] = measured
            if measured or text not in found.texts:
                found.bits[text] = value
    return found


def _dtype(record: EvaluationRecord) -> str:
    return record.conditions.dtype if record.conditions else EXACT
