"""A comparison as Markdown for people, JSON for programs and a page in the report's style."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.comparison.compare import BETTER, SAME_BITS, WORSE
from tinyllama.comparison.statistics import LEVEL
from tinyllama.errors import EvaluationError
from tinyllama.evaluation.noise import RESAMPLES
from tinyllama.files import write_atomic, write_json
from tinyllama.folders import FolderKind, claim
from tinyllama.record_files import read_object
from tinyllama.report.markup import Markup, element
from tinyllama.report.page import document
from tinyllama.report.sections import section
from tinyllama.report.tables import scrollable
from tinyllama.text import MISSING, listing, markdown_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tinyllama.comparison.compare import Change, Comparison, Difference

JSON, MARKDOWN, PAGE = FILES = ("comparison.json", "comparison.md", "comparison.html")


def _is_ours(folder: Path) -> bool:
    try:
        return {"models", "differences"} <= read_object(folder / JSON, EvaluationError, "").keys()
    except (FileNotFoundError, EvaluationError):
        return False


_FOLDER = FolderKind("a comparison", FILES, _is_ours)
METHOD = (
    f"A difference is the second model's value less the first's, over the questions that both answered, with a 95% "
    f"interval by a paired bootstrap over the questions ({RESAMPLES:,} resamples, fixed seed). p is the chance of a "
    f"difference as large if the models' answers were exchanged at random, after Holm's correction for all tests here; "
    f"a difference counts if p is at most {LEVEL}. Scores are percentages. For a text, the questions are its pieces of "
    f"equal size. Fewer bits are better, and a change of up to {SAME_BITS:.0%} is no difference. The test covers the "
    "choice of questions, not that of the seed: if two seeds of one recipe are compared, bits must also change by more "
    "than between these."
)
HEADER = ("task or text", "measure", "questions", "first", "second", "difference", "95% interval", "p", "verdict")
_LISTED = 20
"""Changed questions of a task that are shown; the JSON has all."""


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Write comparison.json, comparison.md and comparison.html.

    Raises:
        EvaluationError: the folder holds files of something else.
    """
    claim(folder, _FOLDER, EvaluationError)
    write_json(folder / JSON, comparison.to_json())  # by this, the folder is known as ours
    write_atomic(folder / MARKDOWN, comparison_markdown(comparison))
    write_atomic(folder / PAGE, comparison_page(comparison))


def comparison_markdown(comparison: Comparison) -> str:
    """The verdicts, the questions that changed, and what is not compared."""
    first, *others = comparison.models
    lines = [f"# {first} against {listing(others)}", ""]
    lines += [f"- {model}: {text}." for model, text in comparison.findings.items()]
    for second in others:
        found = _of(comparison, second)
        lines += ["", f"## {second}", "", markdown_table(HEADER, map(cells, found))]
        lines += [
            "",
            *(f"- {gap.subject}: not compared: {gap.reason}" for gap in comparison.gaps if gap.second == second),
        ]
        for item in found:
            if item.changes:
                lines += ["", f"### {item.subject}: {changed_summary(item)}", ""]
                lines += [f"- {_line(change)}" for change in item.changes[:_LISTED]]
    lines += ["", METHOD, *(f"\nTo compare everything, run `{command}`." for command in comparison.commands)]
    return "\n".join(lines) + "\n"


def cells(item: Difference) -> tuple[str, ...]:
    """The row of a table."""
    digits, scale = (2, 100) if item.in_percent else (3, 1)
    before, after = (f"{scale * value:.{digits}f}" for value in (item.before, item.after))
    difference = f"{scale * (item.after - item.before):+.{digits}f}"
    interval, p = MISSING, MISSING
    if item.test is not None:
        interval = f"{scale * item.test.low:+.{digits}f} to {scale * item.test.high:+.{digits}f}"
    if item.corrected_p is not None:
        p = f"{item.corrected_p:.4f}"
    units = f"{item.units:,}" if item.units else MISSING
    return item.subject, item.measure, units, before, after, difference, interval, p, item.verdict


def changed_summary(item: Difference) -> str:
    """`12 questions changed: 8 for the better, 4 for the worse`."""
    gained = sum((change.after < change.before) == item.lower_is_better for change in item.changes)
    count = f"{len(item.changes)} question{'s' if len(item.changes) > 1 else ''} changed"
    return f"{count}: {gained} for the better, {len(item.changes) - gained} for the worse"


def comparison_page(comparison: Comparison) -> str:
    """One self-contained page that makes no requests."""
    first, *others = comparison.models
    findings = [element("li", element("b", name), f": {text}.") for name, text in comparison.findings.items()]
    commands = [element("p", "To compare everything, run ", element("code", text), ".") for text in comparison.commands]
    body = element(
        "body",
        element(
            "header",
            element("p", "TinyLlama comparison", class_="kicker"),
            element("h1", first),
            element("p", f"against {listing(others)}", class_="lead"),
            element("ul", findings, class_="findings") if findings else None,
        ),
        element("main", [_section(comparison, index) for index in range(1, len(comparison.models))], id="content"),
        element("p", METHOD, class_="lead"),
        commands,
    )
    return document(f"{first} against {listing(others)}", len(comparison.models), body)


def _section(comparison: Comparison, index: int) -> Markup:
    first, second = comparison.models[0], comparison.models[index]
    found = _of(comparison, second)
    rows = [element("tr", _page_cells(item)) for item in found]
    head = [*HEADER[:3], first, second, *HEADER[5:]]
    table = element(
        "table",
        element("caption", f"{second} against {first}", class_="unseen"),
        element("thead", element("tr", [element("th", text, scope="col") for text in head])),
        element("tbody", rows),
        class_="tasks",
    )
    gaps = [
        element("p", f"{gap.subject} is not compared: {gap.reason}.", class_="absent")
        for gap in comparison.gaps
        if gap.second == second
    ]
    changes = [_changes(item) for item in found if item.changes]
    lead = (
        f"{sum(item.verdict == BETTER for item in found)} better, {sum(item.verdict == WORSE for item in found)} worse."
    )
    return section(f"model-{index}", second, lead, scrollable(table, f"{second} against {first}"), *gaps, *changes)


def _page_cells(item: Difference) -> Iterator[Markup]:
    subject, *rest, verdict = cells(item)
    tone = {BETTER: "better", WORSE: "worse"}.get(item.verdict)
    yield element("th", subject, scope="row")
    yield from (element("td", text) for text in rest)
    yield element("td", verdict, style=f"background:rgb(var(--{tone}) / 0.3)" if tone else None)


def _changes(item: Difference) -> Markup:
    shown = [element("li", _line(change)) for change in item.changes[:_LISTED]]
    more = len(item.changes) - _LISTED
    rest = element("p", f"{more} more are in {JSON}.") if more > 0 else None
    return element(
        "details", element("summary", f"{item.subject}: {changed_summary(item)}"), element("ol", shown), rest
    )


def _line(change: Change) -> str:
    asked = " ".join(change.asked.split())
    return (
        f"question {change.question} ({change.before:g} → {change.after:g}): “{asked}”: “{change.first}” → "
        f"“{change.second}”; right: “{change.right}”"
    )


def _of(comparison: Comparison, second: str) -> list[Difference]:
    return [item for item in comparison.differences if item.second == second]
