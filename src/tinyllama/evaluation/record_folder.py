"""Evaluation records on disk: one folder, one writer and one reader.

A folder holds record.json, questions.jsonl (what was asked and answered), scores.csv and scores.md (the record for
spreadsheets and for people), and the journal of an evaluation that can resume.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tinyllama.errors import EvaluationError
from tinyllama.evaluation import legacy
from tinyllama.evaluation.agreement import Agreement, compare_answers
from tinyllama.evaluation.answers import read_answers, write_answers
from tinyllama.evaluation.journal import holds_journal
from tinyllama.evaluation.record import BitsPerByte, Conditions, EvaluationRecord, record_to_json
from tinyllama.evaluation.record_tables import record_csv, record_markdown
from tinyllama.evaluation.scores import StoredTasks, TaskScores
from tinyllama.files import to_bytes, write_atomic, write_json
from tinyllama.folders import FolderKind
from tinyllama.formats.identity import ModelIdentity  # noqa: TC001  # pydantic reads the annotation
from tinyllama.record_files import parse_record, read_object

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from tinyllama.evaluation.answers import Answer
    from tinyllama.files import Json

RECORD, ANSWERS, TABLE, MARKDOWN, JOURNAL = (
    "record.json", "questions.jsonl", "scores.csv", "scores.md", "journal.jsonl",
)  # fmt: skip


@dataclass(frozen=True)
class _Stored:
    """The keys of record.json that are read back; the others follow from them."""

    FORMAT: ClassVar[int] = 2

    model: str
    source: ModelIdentity
    tasks: StoredTasks
    bits_per_byte: BitsPerByte | None
    conditions: Conditions | None
    inputs: str | None
    against_fp32: dict[str, Agreement] | None


def _is_record(folder: Path) -> bool:
    """Whether a folder holds a record or a journal that this or an earlier version wrote."""
    try:
        value = read_object(folder / RECORD, EvaluationError, "")
    except (FileNotFoundError, EvaluationError):
        return holds_journal(folder / JOURNAL)
    return {"model", "source"} <= value.keys()


RECORD_FOLDER = FolderKind("an evaluation record", (RECORD, ANSWERS, TABLE, MARKDOWN, JOURNAL), _is_record)


def record_folder(folder: Path, model: str, source: ModelIdentity, depends_on: Json) -> Path:
    """The folder for a model's record: `folder`, or one beside it if `folder` holds another model's record.

    Models of equal names differ in their path; those of a family, which have several paths, in their hash.

    Args:
        folder: named after the model.
        model: how the caller named the model.
        source: the model.
        depends_on: what its journal depends on.
    """
    if _is_of_another(folder, model, source, depends_on):
        path = os.path.realpath(model)
        return folder.with_name(f"{folder.name}-{hashlib.sha256(to_bytes(path)).hexdigest()[:8]}")
    return folder


def _is_of_another(folder: Path, model: str, source: ModelIdentity, depends_on: Json) -> bool:
    try:
        record = read_record(folder)
    except EvaluationError:
        return False  # no record can be read; the folder is claimed or refused
    if record is None:
        return holds_journal(folder / JOURNAL) and not holds_journal(folder / JOURNAL, depends_on)
    if source.kind == "checkpoint" and record.source.sha256 == source.sha256:
        return False
    return os.path.realpath(record.model) != os.path.realpath(model)


def write_record(folder: Path, record: EvaluationRecord) -> None:
    """Write a record, its answers and its tables to a folder; each file is complete or not there."""
    write_answers(folder / ANSWERS, (answer for task in record.scores.answers.values() for answer in task))
    write_atomic(folder / TABLE, record_csv(record))
    write_atomic(folder / MARKDOWN, record_markdown(record))
    write_json(folder / RECORD, {"format": _Stored.FORMAT} | record_to_json(record))


def read_record(folder: Path) -> EvaluationRecord | None:
    """Read the record in a folder, or what an earlier version wrote instead of it; None if nothing is there.

    Raises:
        EvaluationError: the record cannot be read, is of a newer format, or a key is wrong; names file and key.
    """
    path = folder / RECORD
    if not path.is_file():
        return legacy.read_family_record(folder)
    value = read_object(path, EvaluationError, legacy.REMEDY)
    if value.get("format") == 1:
        return legacy.parse_single_record(value, path)
    stored = parse_record(_Stored, value, path, EvaluationError, legacy.REMEDY)
    return EvaluationRecord(
        model=stored.model,
        source=stored.source,
        scores=TaskScores(stored.tasks),
        bits_per_byte=stored.bits_per_byte,
        conditions=stored.conditions,
        inputs=stored.inputs,
        against_fp32=stored.against_fp32,
    )


def read_current_record(folder: Path, inputs: Collection[str]) -> EvaluationRecord | None:
    """Read the record in a folder if it was made from the same inputs; one that cannot be read is made anew.

    Args:
        folder: of the record.
        inputs: hashes of everything that the record depends on, as this and earlier versions computed them.
    """
    for read in (read_record, legacy.read_family_record):
        try:
            record = read(folder)
        except EvaluationError:
            continue
        if record is not None and record.inputs in inputs:
            return record
    return None


def read_records_by_tokens(folder: Path) -> list[EvaluationRecord]:
    """Read the records of one model's checkpoints during training, by tokens.

    Args:
        folder: of them all, with a folder for each number of tokens.

    Raises:
        EvaluationError: one cannot be read; names file and key.
    """
    found = [read_record(path.parent) for path in folder.glob(f"*/{RECORD}")]
    records = [*legacy.read_scores_by_tokens(folder), *(record for record in found if record is not None)]
    return sorted(records, key=lambda record: record.source.tokens or 0)


def compare_with_record(
    folder: Path, source: ModelIdentity, tokenizer_sha256: str, answers: Iterable[Answer]
) -> dict[str, Agreement] | None:
    """Compare answers with those of an earlier evaluation of the same model, e.g. in another precision.

    Args:
        folder: of the earlier record.
        source: the model that gave the answers.
        tokenizer_sha256: of its tokenizer.
        answers: ours.

    Returns:
        Task → agreement; None if no record of the same weights, tokenizer and BOS can be read there.
    """
    try:
        record = read_record(folder)
        theirs = read_answers(folder / ANSWERS) if record is not None else []
    except EvaluationError:
        return None
    if record is None or record.conditions is None or record.conditions.tokenizer_sha256 != tokenizer_sha256:
        return None
    other = record.source
    if (other.kind, other.sha256, other.adds_bos) != (source.kind, source.sha256, source.adds_bos):
        return None
    return compare_answers(answers, theirs)
