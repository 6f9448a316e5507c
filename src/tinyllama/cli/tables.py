"""Tables for the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tinyllama.comparison.documents import HEADER, cells, changed_summary
from tinyllama.evaluation.published import PUBLISHED, TASKS, published_scores
from tinyllama.plan import MANY_EPOCHS
from tinyllama.plan.tables import CORPUS_HEADER, STAGE_HEADER, corpus_rows, stage_rows
from tinyllama.text import MISSING, number, percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tinyllama.comparison.compare import Comparison
    from tinyllama.evaluation.scores import TaskScores
    from tinyllama.family.preflight import CheckResult
    from tinyllama.plan import PlanSummary

_WIDE = 160


def output() -> Console:
    """The console for results: as wide as the terminal, or wide enough for every table if there is no terminal."""
    return Console() if sys.stdout.isatty() else Console(width=_WIDE)


def print_plan(console: Console, summary: PlanSummary) -> None:
    """Print a plan's stages and corpora, with a warning if text is repeated often."""
    title = f"{summary.recipe} · {summary.variant or 'base'} · {summary.steps:,} steps · {summary.tokens:,} tokens"
    _print(console, title, STAGE_HEADER, stage_rows(summary))
    console.print(f"learning rate: {summary.learning_rate}\n", markup=False, soft_wrap=True)
    _print(console, "", CORPUS_HEADER, corpus_rows(summary))
    console.print(f"optimizer: {summary.optimizer}", markup=False, soft_wrap=True)
    if summary.average is not None:
        console.print(f"average: {summary.average}", markup=False, soft_wrap=True)
    for corpus in summary.corpora:
        if corpus.too_many_epochs:
            console.print(
                f"warning: {corpus.name} is read {corpus.epochs:.1f} times; beyond about {MANY_EPOCHS:g} epochs, "
                "new text helps more than further passes",
                markup=False,
                soft_wrap=True,
            )


def print_checks(console: Console, results: Sequence[CheckResult]) -> None:
    """Print a line for each check that found nothing, and for each fault and note."""
    table = Table(box=None)
    for name in ("check", "result", ""):
        table.add_column(name, overflow="fold")
    for result in results:
        found = [("FAULT", text) for text in result.faults] + [("note", text) for text in result.notes]
        for index, (kind, text) in enumerate(found or [("ok", "")]):
            table.add_row("" if index else result.name, kind, Text(text))
    console.print(table)


def print_matrix(console: Console, bits: Mapping[str, Mapping[str, float]], corpora: list[str]) -> None:
    """Print held-out bits per byte, models by corpora."""
    rows = [(model, *(number(row.get(name), 3) for name in corpora)) for model, row in bits.items()]
    _print(console, "held-out bits per byte", ("model", *corpora), rows)


def print_tasks(console: Console, tasks: Mapping[str, TaskScores]) -> None:
    """Print task scores with standard errors, published rows if they have these tasks, and a reason for each gap."""
    names = list(dict.fromkeys(name for scores in tasks.values() for name in scores.tasks))
    titles = {task.name: task.title for task in TASKS}
    comparable = any(name in titles for name in names)
    rows = [cells for model, scores in tasks.items() for cells in _score_rows(model, scores, names)]
    header = ["model", *(titles.get(name, name) for name in names), "average"]
    notes: list[str] = []
    if comparable:
        for model, published in published_scores().items():
            rows.append([f"{model} (published)", *(number(published.get(name), 2) for name in [*names, "average"])])
        notes = [f"{item.model}: average {item.note}" for item in PUBLISHED if item.note]
    width = len(header) if comparable else len(header) - 1  # the average covers only the published tasks
    _print(console, "task scores, percent", tuple(header[:width]), [tuple(cells[:width]) for cells in rows])
    reasons = dict.fromkeys(
        f"{MISSING} {name}: {gap.reason}" for scores in tasks.values() for name, gap in scores.missing.items()
    )
    cut = [f"{model}: {note}" for model, scores in tasks.items() for note in scores.cut_notes]
    for line in [*notes, *reasons, *cut]:
        console.print(line, markup=False, soft_wrap=True)


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print the verdicts of a comparison, a table for each model after the first, and what is not compared."""
    first, *others = comparison.models
    for second in others:
        found = [item for item in comparison.differences if item.second == second]
        header = (*HEADER[:3], first, second, *HEADER[5:])
        _print(console, f"{second} against {first}", header, [cells(item) for item in found])
        notes = [f"{item.subject}: {changed_summary(item)}" for item in found if item.changes]
        notes += [f"{MISSING} {gap.subject}: {gap.reason}" for gap in comparison.gaps if gap.second == second]
        if second in comparison.findings:
            notes.append(f"{second}: {comparison.findings[second]}")
        for note in notes:
            console.print(note, markup=False, soft_wrap=True)
    for command in comparison.commands:
        console.print(f"to compare everything, run: {command}", markup=False, soft_wrap=True)


def _score_rows(model: str, scores: TaskScores, names: list[str]) -> list[list[str]]:
    """Print one model's scores; below them, if available, the standard errors and the numbers of questions."""
    found = [scores.measured.get(name) for name in names]
    rows = [[model, *(percent(score.score if score else None) for score in found), percent(scores.average)]]
    if any(found):
        rows.append(
            ["  ± standard error", *(percent(score.bootstrap_stderr if score else None) for score in found), ""]
        )
        rows.append(["  questions", *(f"{score.questions:,}" if score else MISSING for score in found), ""])
    return rows


def _print(console: Console, title: str, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    table = Table(title=title or None, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(Text(name), justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # not as markup: paths may have brackets
    console.print(table)
