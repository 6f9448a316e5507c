"""Tables of task scores: the seven commonsense tasks with published results, and every other task."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

from tinyllama.evaluation.measures import core
from tinyllama.evaluation.published import PARAMETERS, PUBLISHED, TASKS
from tinyllama.evaluation.scores import MissingTask
from tinyllama.evaluation.scores import gaps as gap_texts
from tinyllama.recipe.quantities import format_count
from tinyllama.report.markup import Markup, element, join
from tinyllama.report.tables import model_head, scrollable, swatch
from tinyllama.text import MISSING, percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tinyllama.evaluation.published import CommonsenseTask
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
    """Every task that has a score: first the commonsense tasks, if any; and why others have none."""
    measured = dict.fromkeys(name for scores in tasks.values() for name in scores.measured)
    seven = [task for task in TASKS if task.name in measured]
    others = [name for name in measured if name not in _COMMONSENSE]
    notes = Footnotes("task-note")
    parts: list[Markup | None] = []
    if seven:
        parts.append(_commonsense_table(run, tasks, seven, notes))
    if others:
        parts += [element("h3", "Other tasks") if parts else None, _others_table(run, tasks, others, notes)]
    gaps = {name: gap for scores in tasks.values() for name, gap in scores.missing.items() if name not in measured}
    reasons = [element("p", f"{gap[0].upper()}{gap[1:]}.") for gap in gap_texts(gaps.items())]
    return join(*parts, _measures_table(run, tasks), notes.render(), *reasons)


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


def _commonsense_table(
    run: RunData, tasks: Mapping[str, TaskScores], seven: Sequence[CommonsenseTask], notes: Footnotes
) -> Markup:
    """The family's models; above the published rows, if they have the size of the published models."""
    averaged = any(scores.average is not None for scores in tasks.values())
    heads = [element("th", task.title, element("small", task.metric), scope="col") for task in seven]
    average = element("th", "average", scope="col") if averaged else None
    head = element("tr", element("td"), element("th", "tokens", scope="col"), heads, average)
    tokens = run.summary.tokens
    ours = [
        element(
            "tr",
            model_head(run, model),
            element("td", format_count(tokens[model]) if model in tokens else MISSING),
            [_score_cell(tasks[model].tasks.get(task.name), notes) for task in seven],
            _average_cell(tasks[model].average, notes) if averaged else None,
        )
        for model in run.measured
        if model in tasks
    ]
    theirs = [
        element(
            "tr",
            element("th", row.model, scope="row"),
            element("td", format_count(row.tokens)),
            [element("td", f"{row.scores[TASKS.index(task)]:.2f}") for task in seven],
            element("td", f"{row.average:.2f}", notes.mark(row.note) if row.note else None) if averaged else None,
        )
        for row in (PUBLISHED if run.recipe.model.parameters == PARAMETERS else ())
    ]
    label, width = "Zero-shot accuracy in percent", 2 + len(seven) + averaged
    table = element(
        "table",
        element("caption", label, class_="unseen"),
        element("thead", head),
        element("tbody", _divider("this family", width) if theirs else None, ours),
        element("tbody", _divider("published", width), theirs) if theirs else None,
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
    label = "Scores on other tasks, in percent where they are shares"
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


def _divider(text: str, width: int) -> Markup:
    return element("tr", element("th", text, colspan=width, scope="rowgroup"), class_="divider")


def _score_cell(result: TaskScore | MissingTask | None, notes: Footnotes) -> Markup:
    if result is None:
        return element("td", MISSING, notes.mark("not in the recipe's evaluation.tasks"))
    if isinstance(result, MissingTask):
        return element("td", MISSING, notes.mark(result.reason))
    shown = percent(result.stderr, 1) if result.is_share else result.shown(result.stderr)
    error = element("small", f"±{shown}") if result.stderr is not None else None
    cut = f"the prompts of {result.cut} of {result.questions} questions were cut at the model's context"
    return element("td", result.shown(result.score), error, notes.mark(cut) if result.cut else None)


def _average_cell(average: float | None, notes: Footnotes) -> Markup:
    if average is None:
        return element("td", MISSING, notes.mark("the average needs a score for all seven tasks"))
    return element("td", percent(average))
