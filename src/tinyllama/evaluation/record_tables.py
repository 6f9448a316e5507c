"""An evaluation record as Markdown for people and as CSV for spreadsheets."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from io import StringIO
from typing import TYPE_CHECKING

from tinyllama.evaluation.noise import Z95
from tinyllama.evaluation.published import PUBLISHED, TASKS
from tinyllama.evaluation.record import EXACT
from tinyllama.text import MISSING, markdown_table, number, percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tinyllama.evaluation.noise import Difference
    from tinyllama.evaluation.record import EvaluationRecord
    from tinyllama.evaluation.scores import TaskScore

_MEASURES = ("right_bits", "margin", "chance")
_FIELDS = (
    "metric",
    "score",
    "stderr",
    "bootstrap_stderr",
    "questions",
    "shots",
    "version",
    "cut",
    *_MEASURES,
    "reason",
)
_NO_FP32 = "no fp32 record of the same weights is there; evaluate without --precision first"


def record_markdown(record: EvaluationRecord) -> str:
    """The scores, the published scores with the differences to them, and what the figures depend on."""
    lines = [f"# {record.model}", ""]
    header = ("task", "metric", "score", "± bootstrap", "questions", "shots", "version")
    if rows := [_task_row(name, result) for name, result in record.scores.measured.items()]:
        lines.append(markdown_table(header, rows))
    measures = [
        (name, *(number(getattr(score, key), 4) for key in _MEASURES))
        for name, score in record.scores.measured.items()
        if score.right_bits is not None
    ]
    if measures:
        heads = ("task", "bits per byte of the right answer", "margin over the best wrong one", "chance")
        lines += ["", markdown_table(heads, measures)]
    notes = [*record.scores.gaps, *record.scores.cut_notes]
    lines += [line for note in notes for line in ("", f"{note}.")]
    if record.published and any(task.name in record.scores.measured for task in TASKS):
        lines += ["", *_beside_published(record)]
    if bits := [(name, f"{value:.4f}") for name, value in _bits(record)]:
        lines += ["", markdown_table(("text", "bits per byte"), bits)]
    if record.conditions and record.conditions.dtype != EXACT:
        lines += ["", *_beside_fp32(record)]
    keys = asdict(record.source) | (asdict(record.conditions) if record.conditions else {})
    rows = [(key, f"`{json.dumps(value, ensure_ascii=False)}`") for key, value in keys.items() if value is not None]
    lines += ["", markdown_table(("fact", "value"), rows)]
    return "\n".join(lines) + "\n"


def record_csv(record: EvaluationRecord) -> str:
    """A row for each task, for their average, and for each text's bits per byte."""
    out = StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(("model", "task", *_FIELDS))
    for name, result in record.scores.tasks.items():
        fields = asdict(result)
        table.writerow((record.model, name, *(fields.get(key, "") for key in _FIELDS)))
    table.writerow((record.model, "average", "", record.scores.average, *[""] * (len(_FIELDS) - 2)))
    for name, value in _bits(record):
        table.writerow((record.model, name, "bits_per_byte", value, *[""] * (len(_FIELDS) - 2)))
    return out.getvalue()


def _bits(record: EvaluationRecord) -> Iterator[tuple[str, float]]:
    """Bits per byte of each text, followed by those of its sources if it has several."""
    by_source = record.bits_by_source
    for name, value in record.bits_by_text.items():
        yield name, value
        yield from ((f"{name}: {source}", bits) for source, bits in by_source.get(name, {}).items())


def agreement_with_fp32(record: EvaluationRecord) -> str:
    """How a rounded model's answers differ from those in fp32, in a sentence without its period."""
    found = record.against_fp32
    if found is None:
        return f"not compared with fp32: {_NO_FP32}"
    others = sum(len(item.other_choices) for item in found.values())
    largest = max((item.largest_difference for item in found.values()), default=0.0)
    questions = sum(item.questions for item in found.values())
    return (
        f"{others} of {questions} questions have another answer than in fp32; log-likelihoods differ by at most "
        f"{largest:.3g} nats"
    )


def _task_row(name: str, result: TaskScore) -> tuple[str, ...]:
    return (
        name, result.metric, result.shown(result.score), result.shown(result.bootstrap_stderr), str(result.questions),
        str(result.shots), result.version,
    )  # fmt: skip


def _beside_published(record: EvaluationRecord) -> list[str]:
    """The seven scores, the published rows, and the differences to them; bold where they exceed the noise."""
    measured = record.scores.measured
    seven = [percent(measured[task.name].score if task.name in measured else None) for task in TASKS]
    rows, notes = [(record.model, *seven, percent(record.scores.average))], []
    for row in PUBLISHED:
        rows.append((row.model, *(f"{score:.2f}" for score in row.scores), f"{row.average:.2f}"))
        compared = record.published[row.model]
        names = [*(task.name for task in TASKS), "average"]
        rows.append(("difference", *(_points(compared.get(name)) for name in names)))
        if row.note:
            notes.append(f"{row.model}: {row.note}.")
    notes.append(
        f"Differences in points, ± {Z95} standard errors of the difference; bold where they exceed that. The error of "
        "a published score is that of a share over the full split."
    )
    return [markdown_table(("model", *(task.title for task in TASKS), "average"), rows), "", *notes]


def _beside_fp32(record: EvaluationRecord) -> list[str]:
    """On how many questions rounding changed the choice."""
    if record.against_fp32 is None:
        return [f"{agreement_with_fp32(record).capitalize()}."]
    rows = [
        (task, str(item.questions), str(len(item.other_choices)), f"{item.largest_difference:.4f}")
        for task, item in record.against_fp32.items()
    ]
    return [markdown_table(("against fp32", "questions", "other choices", "largest difference, nats"), rows)]


def _points(item: Difference | None) -> str:
    if item is None:
        return MISSING
    text = f"{item.points:+.2f} ± {item.noise:.2f}"
    return f"**{text}**" if item.exceeds_noise else text
