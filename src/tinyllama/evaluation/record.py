"""What an evaluation leaves behind: everything that the figures depend on, and tables for people and programs."""

from __future__ import annotations

import csv
import json
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from typing import TYPE_CHECKING, Any

from tinyllama.evaluation.noise import RESAMPLES, Z95, differences
from tinyllama.evaluation.published import PUBLISHED, TASKS
from tinyllama.files import write_atomic, write_json
from tinyllama.text import MISSING, markdown_table, percent

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tinyllama.evaluation.scores import TaskScores

RECORD, ANSWERS, TABLE, MARKDOWN, JOURNAL = (
    "record.json", "questions.jsonl", "scores.csv", "scores.md", "journal.jsonl",
)  # fmt: skip
_LIBRARIES = ("tinyllama", "lm_eval", "torch", "transformers", "tokenizers", "sentencepiece", "datasets")
_FIELDS = ("metric", "score", "stderr", "bootstrap_stderr", "questions", "shots", "version", "reason")
FP32_FIRST = "no fp32 record of the same weights is there; evaluate without --dtype first"


def build_record(
    model: str,
    inputs: Mapping[str, Any],
    scores: TaskScores,
    bits_per_byte: Mapping[str, Any],
    against_fp32: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The record of one model.

    Args:
        model: its name.
        inputs: what the figures depend on: hashes, BOS policy, dtype, limit, device.
        scores: of the tasks.
        bits_per_byte: text → value, and how it was measured; empty if it was not.
        against_fp32: task → how the answers differ from those in fp32, see `agreement`; None where that is not known.
    """
    tasks = scores.to_json()
    return {
        "format": 1,
        "model": model,
        **inputs,
        "versions": {name: _version(name) for name in _LIBRARIES},
        "tasks": tasks,
        "bits_per_byte": dict(bits_per_byte),
        "against_fp32": None if against_fp32 is None else dict(against_fp32),
        "bootstrap": {"resamples": RESAMPLES, "of": "questions"},
        "published": {
            name: {
                task: {"points": item.points, "noise": item.noise, "exceeds_noise": item.exceeds_noise}
                for task, item in row.items()
            }
            for name, row in differences({key: value for key, value in tasks.items() if key != "average"}).items()
        },
    }


def write_record(folder: Path, record: dict[str, Any], scores: TaskScores) -> None:
    """Write record.json, questions.jsonl, scores.csv and scores.md; each is whole or not there."""
    answers = (answer for task in scores.answers.values() for answer in task)
    write_atomic(folder / ANSWERS, "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers))
    write_atomic(folder / TABLE, _csv(record))
    write_atomic(folder / MARKDOWN, markdown(record))
    write_json(folder / RECORD, record)


def markdown(record: dict[str, Any]) -> str:
    """The record for people: its scores above the published rows with differences, and what they depend on."""
    tasks = {name: result for name, result in record["tasks"].items() if name != "average"}
    lines = [f"# {record['model']}", ""]
    rows = [
        (name, result.get("metric", MISSING), _percent(result), _error(result), str(result.get("questions", MISSING)),
         str(result.get("shots", MISSING)), str(result.get("version", MISSING)), result.get("reason", ""))
        for name, result in tasks.items()
    ]  # fmt: skip
    header = ("task", "metric", "score", "± bootstrap", "questions", "shots", "version", "why not")
    lines.append(markdown_table(header, rows))
    if any(task.name in tasks for task in TASKS):
        lines += ["", *_beside_published(record, tasks)]
    if record["bits_per_byte"]:
        values = [(name, f"{value:.4f}") for name, value in record["bits_per_byte"]["values"].items()]
        lines += ["", markdown_table(("text", "bits per byte"), values)]
    if record["dtype"] != "fp32":
        lines += ["", *_beside_fp32(record)]
    shown = {"tasks", "published", "bits_per_byte", "against_fp32", "model"}
    facts = {key: record[key] for key in record if key not in shown}
    lines += ["", markdown_table(("fact", "value"), [(key, f"`{json.dumps(value)}`") for key, value in facts.items()])]
    return "\n".join(lines) + "\n"


def _beside_published(record: dict[str, Any], tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The seven scores, the published rows, and the differences to them; bold where they exceed the noise."""
    average = record["tasks"]["average"]
    ours = (record["model"], *(_percent(tasks.get(task.name, {})) for task in TASKS), _percent({"score": average}))
    rows, notes = [ours], []
    for row in PUBLISHED:
        rows.append((row.model, *(f"{score:.2f}" for score in row.scores), f"{row.average:.2f}"))
        compared = record["published"][row.model]
        rows.append(("difference", *(_points(compared.get(name)) for name in [*(t.name for t in TASKS), "average"])))
        if row.note:
            notes.append(f"{row.model}: {row.note}.")
    notes.append(
        f"Differences in points, ± {Z95} standard errors of the difference; bold where they exceed that. The published "
        "scores' own error is that of a share over the full split."
    )
    return [markdown_table(("model", *(task.title for task in TASKS), "average"), rows), "", *notes]


def against_fp32(record: dict[str, Any]) -> str:
    """How a rounded model's answers differ from those in fp32, in a sentence."""
    found = record["against_fp32"]
    if found is None:
        return f"not compared with fp32: {FP32_FIRST}"
    others = sum(len(item["other_choices"]) for item in found.values())
    largest = max((item["largest_difference"] for item in found.values()), default=0.0)
    questions = sum(item["questions"] for item in found.values())
    return (
        f"{others} of {questions} questions are answered otherwise than in fp32; log-likelihoods differ by at most "
        f"{largest:.3g} nats"
    )


def _beside_fp32(record: dict[str, Any]) -> list[str]:
    """On how many questions rounding changed the choice."""
    found = record["against_fp32"]
    if found is None:
        return [f"{against_fp32(record).capitalize()}."]
    rows = [
        (task, str(item["questions"]), str(len(item["other_choices"])), f"{item['largest_difference']:.4f}")
        for task, item in found.items()
    ]
    return [markdown_table(("against fp32", "questions", "other choices", "largest difference, nats"), rows)]


def _points(item: Mapping[str, Any] | None) -> str:
    if item is None:
        return MISSING
    text = f"{item['points']:+.2f} ± {item['noise']:.2f}"
    return f"**{text}**" if item["exceeds_noise"] else text


def _percent(result: Mapping[str, Any]) -> str:
    return percent(result.get("score"))


def _error(result: Mapping[str, Any]) -> str:
    return percent(result.get("bootstrap_stderr"))


def _csv(record: dict[str, Any]) -> str:
    out = StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(("model", "task", *_FIELDS))
    for name, result in record["tasks"].items():
        fields = {"score": result} if name == "average" else result
        table.writerow((record["model"], name, *(fields.get(key, "") for key in _FIELDS)))
    for name, value in record["bits_per_byte"].get("values", {}).items():
        table.writerow((record["model"], name, "bits_per_byte", value, *[""] * (len(_FIELDS) - 2)))
    return out.getvalue()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
