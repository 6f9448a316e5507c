"""Tables of task scores: the seven commonsense tasks with published results, and every other task."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

from tinyllama.evaluation.measures import core
from tinyllama.evaluation.published import PUBLISHED, TASKS
from tinyllama.evaluation.scores import MissingTask
from tinyllama.recipe.quantities import format_count
from tinyllama.report.markup import Markup, element, join
from tinyllama.report.tables import model_head, scrollable, swatch
from tinyllama.text import MISSING, percent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tinyllama.evaluation.scores import TaskScore, TaskScores
    from tinyllama.report.run_data import RunData

_COMMONSENSE = tuple(task.name for task in TASKS)


class Footnotes:
    """Numbered notes below a table; equal texts share a number."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.texts: list[str] = []

    def mark(self, text: str) -> Markup:
        """A link to a note."""
        if text not in self.texts:
            self.texts.append(text)
        number = self.texts.index(text) + 1
        link = element("a", str(number), href=f"#{self.prefix}-{number}", aria_label=f"note {number}")
        return element("sup", link)

    def render(self) -> Markup | None:
        """The list of notes."""
        items = [element("li", text, id=f"{self.prefix}-{i}") for i, text in enumerate(self.texts, 1)]
        return element("ol", items, class_="notes") if items else None


def tasks_tables(run: RunData, tasks: Mapping[str, TaskScores]) -> Markup:
    """Every requested task, in percent: first the commonsense tasks, if any."""
    names = list(dict.fromkeys(name for scores in tasks.values() for name in scores.tasks))
    others = [name for name in names if name not in _COMMONSENSE]
    notes = Footnotes("task-note")
    parts: list[Markup | None] = []
    if len(others) < len(names):
        parts.append(_commonsense_table(run, tasks, notes))
    if others:
        parts += [element("h3", "Other tasks") if parts else None, _others_table(run, tasks, others, notes)]
    return join(*parts, _measures_table(run, tasks), notes.render())


def _measures_table(run: RunData, tasks: Mapping[str, TaskScores]) -> Markup | None:
    """Bits and margin of the right answers, a mean over the tasks, and CORE; None where no record has them."""
    rows = []
    for model in run.measured:
        measured = tasks[model].measured if model in tasks else {}
        bits = [score.right_bits for score in measured.values() if score.right_bits is not None]
        margins = [score.margin for score in measured.values() if score.margin is not None]
        if bits:
            found = core(measured)
            cells = (
                f"{fmean(bits):.3f}",
                f"{fmean(margins):+.3f}" if margins else MISSING,
                f"{found[0]:.3f} ({found[1]} tasks)" if found else MISSING,
            )
            rows.append(element("tr", model_head(run, model), [element("td", cell) for cell in cells]))
    if not rows:
        return None
    heads = ("bits per byte of the right answer", "margin over the best wrong answer", "CORE, centered mean")
    label = "Measures that move before accuracy does"
    table = element(
        "table",
        element("caption", label, class_="unseen"),
        element("thead", element("tr", element("td"), [element("th", head, scope="col") for head in heads])),
        element("tbody", rows),
        class_="tasks measures",
    )
    return join(element("h3", label), scrollable(table, label))


def _commonsense_table(run: RunData, tasks: Mapping[str, TaskScores], notes: Footnotes) -> Markup:
    """The family's models, above the published rows."""
    heads = [element("th", task.title, element("small", task.metric), scope="col") for task in TASKS]
    head = element(
        "tr", element("td"), element("th", "tokens", scope="col"), heads, element("th", "average", scope="col")
    )
    tokens = run.summary.tokens
    ours = [
        element(
            "tr",
            model_head(run, model),
            element("td", format_count(tokens[model]) if model in tokens else MISSING),
            [_score_cell(tasks[model].tasks.get(name), notes) for name in _COMMONSENSE],
            _average_cell(tasks[model].average, notes),
        )
        for model in run.measured
        if model in tasks
    ]
    theirs = [
        element(
            "tr",
            element("th", row.model, scope="row"),
            element("td", format_count(row.tokens)),
            [element("td", f"{score:.2f}") for score in row.scores],
            element("td", f"{row.average:.2f}", notes.mark(row.note) if row.note else None),
        )
        for row in PUBLISHED
    ]
    label = "Zero-shot accuracy in percent"
    table = element(
        "table",
        element("caption", label, class_="unseen"),
        element("thead", head),
        element("tbody", _divider("this family"), ours),
        element("tbody", _divider("published"), theirs),
        class_="tasks",
    )
    return scrollable(table, label)


def _others_table(run: RunData, tasks: Mapping[str, TaskScores], names: list[str], notes: Footnotes) -> Markup:
    """A row for each task, a column for each model."""
    models = [model for model in run.measured if model in tasks]
    heads = [element("th", swatch(run, model), model, scope="col") for model in models]
    rows = []
    for name in names:
        measured = next((tasks[model].measured[name] for model in models if name in tasks[model].measured), None)
        detail = f"{measured.metric}, {_examples(measured)}, {measured.questions:,} questions" if measured else None
        cells = [_score_cell(tasks[model].tasks.get(name), notes) for model in models]
        rows.append(element("tr", element("th", name, element("small", detail), scope="row"), cells))
    label = "Scores on other tasks in percent"
    table = element(
        "table",
        element("caption", label, class_="unseen"),
        element("thead", element("tr", element("td"), heads)),
        element("tbody", rows),
        class_="tasks",
    )
    return scrollable(table, label)


def _examples(score: TaskScore) -> str:
    return f"{score.shots} examples" if score.shots else "zero-shot"


def _divider(text: str) -> Markup:
    return element("tr", element("th", text, colspan=3 + len(TASKS), scope="rowgroup"), class_="divider")


def _score_cell(result: TaskScore | MissingTask | None, notes: Footnotes) -> Markup:
    if result is None:
        return element("td", MISSING, notes.mark("not in the recipe's evaluation.tasks"))
    if isinstance(result, MissingTask):
        return element("td", MISSING, notes.mark(result.reason))
    error = element("small", f"±{percent(result.stderr, 1)}") if result.stderr is not None else None
    cut = f"the prompts of {result.cut} of {result.questions} questions were cut at the model's context"
    return element("td", percent(result.score), error, notes.mark(cut) if result.cut else None)


def _average_cell(average: float | None, notes: Footnotes) -> Markup:
    if average is None:
        return element("td", MISSING, notes.mark("the average needs a score for all seven tasks"))
    return element("td", percent(average))
