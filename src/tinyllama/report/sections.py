"""The sections of the report: each has a heading, a line on how to read it, and its content."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.evaluation.published import TASKS
from tinyllama.layout import BASE
from tinyllama.recipe import dump_recipe
from tinyllama.recipe.quantities import format_count
from tinyllama.report.figures import held_out_figures, score_figures, share_figures, training_figure
from tinyllama.report.findings import findings
from tinyllama.report.markup import Markup, element, join
from tinyllama.report.tables import bits_table, quota_table, sources_table, spikes_table, swatch, training_table
from tinyllama.report.task_tables import tasks_tables
from tinyllama.report.text import duration
from tinyllama.report.tree import family_tree
from tinyllama.text import listing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tinyllama.evaluation.scores import TaskScores
    from tinyllama.report.figures import Figure
    from tinyllama.report.run_data import RunData

_OF_THE_STAGE = ", in windows of the stage's context"
_NO_STEPS = "no training step is recorded"
_NOT_HELD_OUT = "no model was measured on held-out text"
_SMOOTHED = "Faint lines show the points, strong lines their running mean over 1/50 of them, and over at least three."
_NAMED = 8
"""Tasks of equal chance that are named; others are counted."""


def section(name: str, title: str, lead: str, *content: Markup | None) -> Markup:
    """One section with an anchor."""
    heading = element("h2", title, id=f"{name}-title")
    return element(
        "section", heading, element("p", lead, class_="lead"), content, id=name, aria_labelledby=f"{name}-title"
    )


def absent(reason: str) -> Markup:
    """The line that replaces a part without data; what stands between backquotes is code."""
    parts = [element("code", part) if index % 2 else part for index, part in enumerate(reason.split("`"))]
    return element("p", "Not shown: ", parts, ".", class_="absent")


def headline(run: RunData) -> Markup:
    """The family's name, size, tokens and training time."""
    numbers = [
        (format_count(run.recipe.model.parameters, 3), "parameters per model"),
        (str(len(run.models)), "models"),
        *_token_numbers(run),
        *_time_numbers(run),
    ]
    figures = [element("div", element("dd", value), element("dt", name)) for value, name in numbers]
    return element(
        "header",
        element("p", "TinyLlama family report", class_="kicker"),
        element("h1", run.recipe.name),
        element("p", run.recipe.description, class_="lead"),
        element("dl", figures, class_="numbers"),
    )


def _token_numbers(run: RunData) -> list[tuple[str, str]]:
    tokens = run.summary.tokens
    shared = tokens.get(BASE)
    forks = {name: run.fork_tokens(name) for name in run.recipe.branches}
    own = {max(0, count - forks.get(name, shared or 0)) for name, count in tokens.items() if name != BASE}
    numbers = [(format_count(shared, 3), "shared tokens")] if shared is not None else []
    if own:
        spans = [format_count(count, 3) for count in sorted({min(own), max(own)})]
        numbers.append((" to ".join(spans), "additional tokens per variant"))
    return numbers


def _time_numbers(run: RunData) -> list[tuple[str, str]]:
    seconds = run.summary.seconds
    if not seconds:
        return []
    cores = run.summary.machine.get("cores")
    return [(duration(sum(seconds.values())), f"on {cores} CPU cores" if cores else "in total")]


def family(run: RunData) -> Markup:
    """The family tree."""
    shape = run.recipe.model
    parent = "checkpoint of its parent where it forks" if run.recipe.branches else "same base checkpoint"
    every = "model" if run.recipe.branches else "variant"
    forked = f" Every {every} starts from the {parent}, with its weights and optimizer moments."
    lead = (
        f"A Llama 2 decoder with {shape.layers} layers, width {shape.width:,}, {shape.heads} query heads, "
        f"{shape.kv_heads} key-value heads, context {_contexts(run)} and vocabulary {shape.vocab_size:,}."
        f"{forked if run.models[1:] else ''}"
    )
    return section("family", "The family", lead, family_tree(run))


def _changes_context(run: RunData) -> bool:
    """Whether some stage has another context than the model."""
    return any(run.recipe.contexts_of(model) != (run.recipe.model.context,) for model in run.models if model != BASE)


def _contexts(run: RunData) -> str:
    """The context of the models; if stages differ, that of each finished model."""
    finished = {model: run.recipe.final_shape(model).context for model in run.models}
    if set(finished.values()) == {run.recipe.model.context}:
        return f"{run.recipe.model.context:,}"
    return listing([f"{context:,} ({model})" for model, context in finished.items()])


def learnt(run: RunData) -> Markup:
    """The bits-per-byte matrix and a summary of it."""
    title = "What each model learned"
    bits = run.summary.bits_per_byte
    lead = "Bits that each model needs per byte of held-out text; lower is better."
    if run.models[1:]:
        lead += f" The second line and the color of a cell show the difference from {run.reference}."
    if _changes_context(run):
        lead += " Each model sees windows of its own context."
    if not any(bits.values()):
        return section("learnt", title, lead, absent(_reason(run, "summary.json", _NOT_HELD_OUT)))
    sentences = findings(bits, run.reference, run.recipe.corpora_of(BASE))
    items = [element("li", swatch(run, name), element("b", name), f": {text}.") for name, text in sentences.items()]
    scale = element("p", "a quarter of the bits", element("span", class_="scale"), "four times", class_="legend-scale")
    listed = element("ul", items, class_="findings")
    return section("learnt", title, lead, listed, bits_table(run, bits), scale, sources_table(run))


def curves(run: RunData, figures: list[Figure]) -> Markup:
    """Losses, learning rate and batch by tokens; the figures are appended to `figures`."""
    title = "Training curves"
    lead = "Losses in nats per token by tokens seen. Shaded and plain bands are the stages"
    lead += "; variants continue the base." if run.models[1:] else "."
    if not run.histories:
        return section("curves", title, lead, absent(_reason(run, "base/metrics.jsonl", _NO_STEPS)))
    training = training_figure(run)
    held_out = held_out_figures(run)
    figures += [training, *[figure for _, figure in held_out]]
    steps = max(history.steps_per_point for history in run.histories.values())
    sampled = f"Each point is the mean of up to {steps} steps." if steps > 1 else "Each point is one step."
    note = f"{sampled} {_SMOOTHED}"
    note += " Training losses on different mixtures are not comparable; the held-out losses below are."
    if run.models[1:]:
        of_whom = "each branch's own" if run.recipe.branches else "the same for every variant"
        note += f" The learning rate and the batch size (in tokens) are {of_whom}."
    if overflows := sum(history.overflows for history in run.histories.values()):
        note += f" {overflows} steps were skipped, since their gradients overflowed in fp16."
    grid = [_small_figure(corpus, figure) for corpus, figure in held_out]
    return section(
        "curves",
        title,
        lead,
        _legend(run),
        _figure(training, note),
        element("h3", _held_out_title(run) + _OF_THE_STAGE * _changes_context(run)),
        element("div", grid, class_="grid") if grid else absent(f"{_NOT_HELD_OUT} as it trained"),
        spikes_table(run),
        *[absent(reason) for name, reason in run.missing.items() if name.endswith("metrics.jsonl")],
    )


def _held_out_title(run: RunData) -> str:
    if not run.bytes_per_token:
        return "Held-out loss by corpus"
    return "Held-out bits per byte by corpus, on a sample of its rows and with the bytes per token of all of them"


def shares(run: RunData, figures: list[Figure]) -> Markup:
    """Realized against planned shares; the figures are appended to `figures`."""
    title = "Training data"
    lead = "The share of each corpus in the batches: solid lines are realized shares, dotted lines are planned shares."
    charts = share_figures(run)
    if not charts:
        return section("shares", title, lead, absent(_reason(run, "base/metrics.jsonl", _NO_STEPS)))
    figures += [figure for _, figure in charts]
    note = (
        "In sequences, for each model's own part of the plan. The gap is the largest difference between the cumulative "
        "count and the plan's quota at the plotted points; it must stay below one sequence."
    )
    if _changes_context(run):
        note += " Sequences of another context than the model's count by themselves; their corpora are named with it."
    grid = element("div", [_small_figure(corpus, figure) for corpus, figure in charts], class_="grid")
    return section("shares", title, lead, _legend(run), grid, element("p", note), quota_table(run))


def tasks(run: RunData, figures: list[Figure]) -> Markup:
    """Scores on every requested task, and scores during training; their figures are appended to `figures`."""
    title = "Task scores"
    results = {name: scores for name, scores in run.summary.tasks.items() if scores.tasks}
    lead = f"By lm-evaluation-harness; shares are in percent, and ± is one standard error.{_chances(results)}"
    if not results:
        return section("tasks", title, lead, absent(_no_tasks(run)))
    content: list[Markup | None] = [tasks_tables(run, results)]
    if during := score_figures(run):
        figures += [figure for _, figure in during]
        note = "Measured on copies of checkpoints; a figure of several tasks shows their unweighted mean."
        grid = [_small_figure(measure, figure) for measure, figure in during]
        content += [element("h3", "During training"), element("div", grid, class_="grid"), element("p", note)]
    return section("tasks", title, lead, *content)


def _no_tasks(run: RunData) -> str:
    if not run.recipe.evaluation.tasks:
        return "the recipe has no tasks (`evaluation.tasks`)"
    return _reason(run, "summary.json", "no model was measured on a task")


def _chances(tasks: Mapping[str, TaskScores]) -> str:
    """What a guess among the options scores, as far as the records say it."""
    titles = {task.name: task.title for task in TASKS}
    named = {name: score.chance for scores in tasks.values() for name, score in scores.measured.items() if score.chance}
    found: dict[int, list[str]] = {}
    for name, chance in named.items():
        found.setdefault(round(100 * chance), []).append(titles.get(name, name))
    parts = []
    for chance, names in sorted(found.items()):
        others = [f"{len(names) - _NAMED} others"] if len(names) > _NAMED + 1 else names[_NAMED:]
        parts.append(f"{chance} on {listing(names[:_NAMED] + others)}")
    return f" A guess scores about {'; '.join(parts)}." if parts else ""


def samples(run: RunData) -> Markup:
    """Continuations of every prompt by every model, side by side."""
    title = "Samples"
    lead = "The same prompts, continued by every model of the family."
    if not run.samples and not run.samples_by_tokens:
        return section("samples", title, lead, absent(_no_samples(run)))
    blocks = [
        element("div", element("h3", element("code", prompt)), element("div", _cards(run, prompt), class_="cards"))
        for prompt in run.samples
    ]
    return section("samples", title, lead, *blocks, _samples_by_tokens(run))


def _no_samples(run: RunData) -> str:
    if not run.recipe.evaluation.prompts:
        return "the recipe has no prompts (`evaluation.prompts`)"
    return _reason(run, "evaluation/samples.json", "no model has continued the recipe's prompts")


def _samples_by_tokens(run: RunData) -> Markup | None:
    """What each model wrote during training, by tokens seen; None if it wrote nothing."""
    parts = []
    for model, found in run.samples_by_tokens.items():
        rows = [
            element(
                "article",
                element("h4", format_count(tokens), " tokens"),
                [
                    element("p", element("span", prompt, class_="prompt"), *texts.values())
                    for prompt, texts in written.items()
                ],
                style=f"border-color:var(--model-{run.models.index(model)})",
            )
            for tokens, written in found
        ]
        parts.append(
            element("details", element("summary", swatch(run, model), model), element("div", rows, class_="cards"))
        )
    return join(element("h3", "During training"), *parts) if parts else None


def _cards(run: RunData, prompt: str) -> list[Markup]:
    return [
        element(
            "article",
            element("h4", swatch(run, model), model),
            element("p", element("span", prompt, class_="prompt"), run.samples[prompt][model]),
            style=f"border-color:var(--model-{run.models.index(model)})",
        )
        for model in run.models
        if model in run.samples[prompt]
    ]


def machine(run: RunData) -> Markup:
    """Training, time, machine, versions, exports and the recipe."""
    title = "Provenance"
    lead = "Everything needed to reproduce this family."
    parts = [
        _times(run),
        _pairs("Machine", run.summary.machine),
        _pairs("Versions", run.summary.versions),
        _exports(run),
        _pairs("Text that was unavailable, and what replaced it", run.replaced),
        *(_pairs(f"Documents of {corpus}", counts) for corpus, counts in run.selection.items()),
    ]
    text = element("pre", dump_recipe(run.recipe), tabindex=0, role="region", aria_label="The whole recipe")
    recipe = element("details", element("summary", "The whole recipe"), text)
    reason = None if any(parts) else absent(_reason(run, "summary.json", "time, machine and versions are not recorded"))
    columns = element("div", parts, class_="columns")
    damaged = [absent(reason) for name, reason in run.missing.items() if name.endswith("process.json")]
    return section("machine", title, lead, training_table(run), *damaged, columns, reason, recipe)


def _times(run: RunData) -> Markup | None:
    seconds = run.summary.seconds
    if not seconds:
        return None
    longest = max([*seconds.values(), 1e-9])
    rows = [
        element(
            "tr",
            element("th", phase, scope="row"),
            element("td", duration(spent)),
            element(
                "td", element("span", class_="bar", style=f"width:{100 * spent / longest:.1f}%"), aria_hidden="true"
            ),
        )
        for phase, spent in seconds.items()
    ]
    return element("div", element("h3", "Time per phase"), element("table", element("tbody", rows), class_="times"))


def _pairs(title: str, values: Mapping[str, str | int | float]) -> Markup | None:
    if not values:
        return None
    rows = [
        element("tr", element("th", name.replace("_", " "), scope="row"), element("td", str(value)))
        for name, value in values.items()
    ]
    return element("div", element("h3", title), element("table", element("tbody", rows), class_="pairs"))


def _exports(run: RunData) -> Markup | None:
    exports = run.summary.exports
    if not exports:
        return None
    rows = [
        element("tr", element("th", model, scope="row"), element("td", element("code", folder)))
        for model, folder in exports.items()
    ]
    return element("div", element("h3", "Exports"), element("table", element("tbody", rows), class_="pairs"))


def _legend(run: RunData) -> Markup:
    """Buttons that name each model's color and hide it in all figures."""
    buttons = [
        element(
            "button", swatch(run, model), model, type="button", class_="chip", data_model=model, aria_pressed="true"
        )
        for model in run.models
        if model in run.histories
    ]
    return element("div", buttons, class_="chips", role="group", aria_label="Show or hide models")


def _figure(figure: Figure, note: str) -> Markup:
    chart = element("div", id=figure.name, class_="chart", role="img", aria_label=figure.label)
    return element("figure", chart, element("figcaption", note))


def _small_figure(title: str, figure: Figure) -> Markup:
    chart = element("div", id=figure.name, class_="chart", role="img", aria_label=figure.label)
    return element("figure", element("figcaption", title), chart)


def _reason(run: RunData, file: str, otherwise: str) -> str:
    """Why a part has no data: its file cannot be read, or else what the file lacks."""
    return run.missing.get(file, otherwise)
