"""What earlier versions wrote, read as today's typed records.

Commit 4bd9be0 had three forms: `record.json` of format 1 for single models, `<family>/evaluation/<model>.json` for a
family's models, and `<family>/evaluation/by_tokens/<model>/<tokens>.json` for scores during training. A key that is
absent means what that version did: scores of families are in fp32, and their bits per byte in the recipe's precision.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tinyllama.errors import EvaluationError
from tinyllama.evaluation.agreement import Agreement  # noqa: TC001  # pydantic reads the annotation
from tinyllama.evaluation.record import BitsPerByte, Conditions, EvaluationRecord
from tinyllama.evaluation.scores import StoredTasks, TaskScores
from tinyllama.files import sha256_file
from tinyllama.formats.identity import ModelIdentity
from tinyllama.record_files import parse_record, read_record

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import JsonValue

    from tinyllama.files import Json

REMEDY = "delete it and evaluate the model again"


@dataclass(frozen=True)
class _Source:
    """`source` of format 1."""

    kind: str
    sha256: str
    bos: bool
    stored_dtype: str | None = None
    recipe: str | None = None
    run: str | None = None
    tokens: int | None = None
    fingerprint: str | None = None


@dataclass(frozen=True)
class _Bits:
    """`bits_per_byte` of format 1; empty if they were not measured."""

    values: dict[str, float] = field(default_factory=dict)
    window: int = 0
    stride: int = 0


@dataclass(frozen=True)
class _SingleRecord:
    """`record.json` of format 1; beside these keys it has those of `Conditions`."""

    model: str
    source: _Source
    tasks: StoredTasks
    bits_per_byte: _Bits
    against_fp32: dict[str, Agreement] | None = None


@dataclass(frozen=True)
class _BitsSettings:
    window: int
    stride: int
    precision: str


@dataclass(frozen=True)
class _FamilyRecord:
    """`<family>/evaluation/<model>.json`."""

    model: str
    inputs: str
    bits_per_byte: dict[str, float]
    bits_per_byte_settings: _BitsSettings
    tasks: StoredTasks
    tokens: int
    fingerprint: str


@dataclass(frozen=True)
class _ScoresByTokens:
    """`<family>/evaluation/by_tokens/<model>/<tokens>.json`."""

    tokens: int
    step: int
    tasks: StoredTasks


def parse_single_record(value: dict[str, JsonValue], path: Path) -> EvaluationRecord:
    """The record of format 1 that a file holds.

    Raises:
        EvaluationError: a key is missing or wrong; names file and key.
    """
    old = parse_record(_SingleRecord, value, path, EvaluationError, REMEDY)
    rows = None if value.get("rows") == "auto" else value.get("rows")
    conditions = parse_record(Conditions, value | {"rows": rows}, path, EvaluationError, REMEDY)
    source, bits = old.source, old.bits_per_byte
    return EvaluationRecord(
        model=old.model,
        source=ModelIdentity(
            kind=source.kind,
            sha256=source.sha256,
            adds_bos=source.bos,
            stored_dtype=source.stored_dtype,
            recipe=source.recipe,
            model=source.run,
            tokens=source.tokens,
            fingerprint=source.fingerprint,
        ),
        scores=TaskScores(old.tasks),
        bits_per_byte=BitsPerByte(bits.values, bits.window, bits.stride, conditions.dtype) if bits.values else None,
        conditions=conditions,
        against_fp32=old.against_fp32,
    )


def read_family_record(folder: Path) -> EvaluationRecord | None:
    """Read the file that stood beside the folder that a record of a family's model has today; None if there is none.

    Raises:
        EvaluationError: a key is missing or wrong; names file and key.
    """
    path = folder.with_name(f"{folder.name}.json")
    if not path.is_file():
        return None
    old = read_record(_FamilyRecord, path, EvaluationError, REMEDY)
    settings = old.bits_per_byte_settings
    return EvaluationRecord(
        model=old.model,
        source=ModelIdentity(
            "checkpoint", None, None, "float32", model=old.model, tokens=old.tokens, fingerprint=old.fingerprint
        ),
        scores=TaskScores(old.tasks),
        bits_per_byte=BitsPerByte(old.bits_per_byte, settings.window, settings.stride, settings.precision),
        inputs=old.inputs,
    )


def read_scores_by_tokens(folder: Path) -> list[EvaluationRecord]:
    """Read the scores that were measured while a model trained.

    Args:
        folder: where such records lie today, `<family>/evaluation/<model>/by_tokens`.

    Raises:
        EvaluationError: a key is missing or wrong; names file and key.
    """
    model = folder.parent.name
    records = []
    for path in sorted((folder.parent.parent / "by_tokens" / model).glob("*.json")):
        old = read_record(_ScoresByTokens, path, EvaluationError, REMEDY)
        source = ModelIdentity("checkpoint", None, None, "float32", model=model, step=old.step, tokens=old.tokens)
        records.append(EvaluationRecord(model=model, source=source, scores=TaskScores(old.tasks)))
    return records


def data_hashes(data: Path) -> dict[str, str]:
    """The data files that a family's `inputs` covered: all `*.jsonl` in the folder itself, whatever the tasks."""
    return {path.name: sha256_file(path) for path in sorted(data.glob("*.jsonl"))} if data.is_dir() else {}


def journal_inputs(
    identity: ModelIdentity, tokenizer_sha256: str, dtype: str, device: str, torch_version: str
) -> dict[str, Json]:
    """What the answers in a journal depend on, as 4bd9be0 spelled it: the hash in the journal's head covers this."""
    source: dict[str, Json] = {
        "kind": identity.kind,
        "sha256": identity.sha256,
        "bos": identity.adds_bos,
        "stored_dtype": identity.stored_dtype,
    }
    if identity.recipe is not None:
        source |= {
            "recipe": identity.recipe,
            "run": identity.model,
            "tokens": identity.tokens,
            "fingerprint": identity.fingerprint,
        }
    return {
        "source": source,
        "tokenizer_sha256": tokenizer_sha256,
        "bos": identity.adds_bos,
        "dtype": dtype,
        "device": device,
        "torch": torch_version,
    }
