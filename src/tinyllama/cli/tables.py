"""Tables for the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tinyllama.cli.planning.published import fit_line, tokens_line
from tinyllama.evaluation.published import PUBLISHED, TASKS, published_scores
from tinyllama.plan import MANY_EPOCHS, effective_epochs
from tinyllama.plan.tables import (
    CORPUS_HEADER,
    STAGE_HEADER,
    corpus_rows,
    measurement_lines,
    repetitions,
    stage_notes,
    stage_rows,
)
from tinyllama.recipe.quantities import format_count
from tinyllama.text import MISSING, number, percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tinyllama.cli.planning.published import Published
    from tinyllama.comparison.compare import Comparison
    from tinyllama.doctor import Examined
    from tinyllama.evaluation.scores import TaskScore, TaskScores
    from tinyllama.family.preflight import CheckResult
    from tinyllama.plan import PlanSummary
    from tinyllama.recipe import Recipe

_WIDE = 160


def output() -> Console:
    """The console for results: as wide as the terminal, or wide enough for every table if there is no terminal."""
    return Console() if sys.stdout.isatty() else Console(width=_WIDE)


def print_plan(console: Console, summary: PlanSummary, recipe: Recipe, published: Published) -> None:
    """Print a plan's stages and corpora and what published rules say, with a warning if text is repeated often."""
    title = f"{summary.recipe} · {summary.variant or 'base'} · {summary.steps:,} steps · {summary.tokens:,} tokens"
    if summary.parent is not None:
        title += f" · forks from {summary.parent} at {summary.fork_tokens:,}, after step {summary.fork_step:,}"
    _print(console, title, STAGE_HEADER, stage_rows(summary))
    for sentence in stage_notes(summary):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    for line in (
        f"model: {summary.parameters:,} parameters; a checkpoint: {_disk(published.checkpoint_bytes)} on disk",
        tokens_line(published),
        f"learning rate: {summary.learning_rate}",
        f"{fit_line(published, summary, recipe)}\n",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    _print(console, "", CORPUS_HEADER, corpus_rows(summary))
    for sentence in repetitions(summary):
        console.print(sentence, markup=False, soft_wrap=True)
    console.print(f"optimizer: {summary.optimizer}", markup=False, soft_wrap=True)
    if summary.average is not None:
        console.print(f"average: {summary.average}", markup=False, soft_wrap=True)
    for line in measurement_lines(summary):
        console.print(line, markup=False, soft_wrap=True)
    if summary.past_horizon:
        console.print(
            f"note: the last {format_count(summary.past_horizon)} tokens lie past the horizon of the learning rate, "
            "which stays at its minimum there; optimizer.learning_rate.horizon moves it",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    for corpus in summary.corpora:
        if corpus.too_many_epochs:
            console.print(
                f"warning: {corpus.name} is read {number(corpus.epochs, 1)} times, worth about "
                f"{number(effective_epochs(corpus.epochs or 0), 1)} times as much new text; beyond about {MANY_EPOCHS} "
                "epochs, more text helps more than further passes",
                markup=False,
                soft_wrap=True,
            )


def _disk(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def print_tree(console: Console, recipe: Recipe, replays: Mapping[str, range | None]) -> None:
    """Print the tokens that all models are trained on, and the steps that branches repeat."""
    total = sum(map(recipe.own_tokens, recipe.models))
    console.print(f"all {len(recipe.models)} models: {total:,} tokens; what they share counts once", soft_wrap=True)
    for branch, steps in replays.items():
        if steps is not None:
            first, last, parent = steps.start + 1, steps.stop, recipe.parent(branch)
            found = f"{branch}: repeats steps {first:,} to {last:,} of {parent}, whose checkpoint was not kept"
            console.print(found, markup=False, soft_wrap=True)


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


def print_examined(console: Console, found: Sequence[Examined]) -> None:
    """Print a line for each thing that was examined, with the remedy below what does not work."""
    table = Table(box=None)
    for name in ("", "state", "found"):
        table.add_column(name, overflow="fold")
    for item in found:
        table.add_row(item.name, item.state, Text(item.result))
        if item.remedy:
            table.add_row("", "", Text(f"→ {item.remedy}"))
    console.print(table)


def print_matrix(console: Console, title: str, bits: Mapping[str, Mapping[str, float]], corpora: list[str]) -> None:
    """Print bits per byte, models by corpora or texts."""
    rows = [(model, *(number(row.get(name), 3) for name in corpora)) for model, row in bits.items()]
    _print(console, title, ("model", *corpora), rows)


def print_sources(console: Console, bits: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Print bits per byte of corpora that have several sources, sources by models; nothing if there are none.

    Args:
        console: receives them.
        bits: model → corpus or text → source → bits per byte.
    """
    names = dict.fromkeys((text, source) for texts in bits.values() for text in texts for source in texts[text])
    rows = [
        (f"{text}: {source}", *(number(texts.get(text, {}).get(source), 3) for texts in bits.values()))
        for text, source in names
    ]
    if rows:
        _print(console, "bits per byte by source", ("source", *bits), rows)


def print_tasks(
    console: Console, tasks: Mapping[str, TaskScores], *, published: bool, told: Sequence[str] = ()
) -> None:
    """Print the scores in percent with standard errors, a task a row, and a line for each reason why some lack.

    Args:
        console: receives them.
        tasks: model → its scores.
        published: show the published scores of TinyLlama beside them.
        told: notes that have been shown; a reason that ends one of them is not repeated.
    """
    names = list(dict.fromkeys(name for scores in tasks.values() for name in scores.measured))
    titles = {task.name: task.title for task in TASKS}
    others = published_scores() if published and titles.keys() & names else {}
    rows = [
        [titles.get(name, name), *(_score(scores.measured.get(name)) for scores in tasks.values()),
         *(number(row.get(name), 2) for row in others.values())]
        for name in names
    ]  # fmt: skip
    if any(scores.average is not None for scores in tasks.values()):
        ours = [percent(scores.average) for scores in tasks.values()]
        rows.append(["average", *ours, *(f"{row['average']:.2f}" for row in others.values())])
    if rows:
        header = ("task", *tasks, *(f"{model} (published)" for model in others))
        _print(console, "task scores, accuracy in percent ± standard error", header, [tuple(row) for row in rows])
    notes = [f"{item.model}: average {item.note}" for item in PUBLISHED if item.note and others]
    gaps = dict.fromkeys(gap for scores in tasks.values() for gap in scores.gaps)
    cut = dict.fromkeys(note for scores in tasks.values() for note in scores.cut_notes)
    untold = [gap for gap in gaps if not any(note.endswith(gap) for note in told)]
    for line in [*notes, *untold, *cut]:
        console.print(line, markup=False, soft_wrap=True)


def _score(result: TaskScore | None) -> str:
    if result is None:
        return MISSING
    error = "" if result.bootstrap_stderr is None else f" ± {result.shown(result.bootstrap_stderr)}"
    return f"{result.shown(result.score)}{error}"


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print the verdicts of a comparison, a table for each model after the first, and what is not compared."""
    from tinyllama.comparison.documents import HEADER, cells, changed_summary  # import torch, which plans do not need

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


def _print(console: Console, title: str, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    table = Table(title=title or None, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(Text(name), justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # not as markup: paths may have brackets
    console.print(table)
