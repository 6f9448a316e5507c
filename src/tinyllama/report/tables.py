"""The report's tables: bits per byte as a heat map, loss spikes, planned and realized sequences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tinyllama.layout import BASE, averaged
from tinyllama.plan import compile_plan, quota_at, sequences_at
from tinyllama.recipe.stages import partition_name
from tinyllama.report.markup import Markup, element, join
from tinyllama.report.text import duration, minute, percent_change, spike_text
from tinyllama.text import MISSING, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tinyllama.report.findings import Matrix
    from tinyllama.report.run_data import RunData

_FULL_COLOR = math.log(4)
"""A ratio of 1/4 or 4 gets the full color."""


def scrollable(table: Markup, label: str) -> Markup:
    """A table that scrolls horizontally on a narrow screen, also by keyboard."""
    return element("div", table, class_="scroll", role="region", tabindex=0, aria_label=label)


def model_head(run: RunData, model: str) -> Markup:
    """A row's header: the model's color and name."""
    return element("th", swatch(run, model), model, scope="row")


def swatch(run: RunData, model: str) -> Markup:
    """A swatch of a model's color."""
    return element("span", class_="swatch", style=f"background:var(--model-{run.models.index(averaged(model))})")


def bits_table(run: RunData, bits: Matrix) -> Markup:
    """Models by corpora; the color and the second line show the difference from the first variant."""
    corpora = [name for name in run.recipe.corpora if any(name in row for row in bits.values())]
    reference = bits.get(run.reference, {})
    head = element("tr", element("td"), [element("th", name, scope="col") for name in corpora])
    rows = [
        element("tr", model_head(run, model), [_bits_cell(bits[model], reference, name) for name in corpora])
        for model in run.measured
        if model in bits
    ]
    caption = element("caption", "Held-out bits per byte by model and corpus", class_="unseen")
    table = element("table", caption, element("thead", head), element("tbody", rows), class_="heat")
    return scrollable(table, "Bits per byte")


def sources_table(run: RunData) -> Markup | None:
    """Bits per byte of corpora that have several sources, sources by models; None if there are none."""
    bits = run.summary.bits_per_byte_by_source
    models = [model for model in run.measured if model in bits]
    names = dict.fromkeys((corpus, source) for row in bits.values() for corpus in row for source in row[corpus])
    rows = [
        element(
            "tr",
            element("th", source, element("small", corpus), scope="row"),
            [element("td", number(bits[model].get(corpus, {}).get(source), 3)) for model in models],
        )
        for corpus, source in names
    ]
    if not rows:
        return None
    label = "Held-out bits per byte by source"
    heads = [element("th", swatch(run, model), model, scope="col") for model in models]
    table = element(
        "table",
        element("caption", label, class_="unseen"),
        element("thead", element("tr", element("td"), heads)),
        element("tbody", rows),
        class_="tasks sources",
    )
    return join(element("h3", label), scrollable(table, label))


def _bits_cell(row: Mapping[str, float], reference: Mapping[str, float], corpus: str) -> Markup:
    if corpus not in row:
        return element("td", MISSING)
    value = element("b", f"{row[corpus]:.3f}")
    if corpus not in reference or row is reference:
        return element("td", value, element("small", "reference" if row is reference else None))
    ratio = row[corpus] / reference[corpus]
    strength = min(1.0, abs(math.log(ratio)) / _FULL_COLOR) if ratio > 0 else 1.0
    tone = "better" if ratio < 1 else "worse"
    style = f"background:rgb(var(--{tone}) / {0.06 + 0.5 * strength:.3f})"
    return element("td", value, element("small", percent_change(ratio)), style=style)


def spikes_table(run: RunData) -> Markup | None:
    """Steps that were skipped as spikes, with the cause and their rows; None if there are none."""
    head = ("model", "step", "cause", "policy", "rows")
    rows = [
        element(
            "tr",
            model_head(run, model),
            element("td", f"{spike.step:,}"),
            element("td", spike_text(spike)),
            element("td", spike.policy),
            element("td", " ".join(spike.rows)),
        )
        for model, history in run.histories.items()
        for spike in history.spikes
    ]
    if not rows:
        return None
    table = element(
        "table",
        element("caption", "Loss spikes", class_="unseen"),
        element("thead", element("tr", [element("th", text, scope="col") for text in head])),
        element("tbody", rows),
        class_="spikes",
    )
    return join(element("h3", "Loss spikes"), scrollable(table, "Loss spikes"))


def training_table(run: RunData) -> Markup | None:
    """Speed, time and end of each model's training; None where nothing is recorded."""
    columns = [
        (element("th", "tokens/s", element("small", "median step"), scope="col"), _speeds(run)),
        (element("th", "time", element("small", "steps and checkpoints"), scope="col"), _times(run)),
        (element("th", "ended", element("small", "UTC"), scope="col"), _ends(run)),
    ]
    known = [(head, cells) for head, cells in columns if cells]
    models = [model for model in run.models if any(model in cells for _, cells in known)]
    if not models:
        return None
    rows = [
        element("tr", model_head(run, model), [element("td", cells.get(model, MISSING)) for _, cells in known])
        for model in models
    ]
    label = "Training of each model"
    table = element(
        "table",
        element("caption", label, class_="unseen"),
        element("thead", element("tr", element("td"), [head for head, _ in known])),
        element("tbody", rows),
        class_="training",
    )
    return element("div", element("h3", "Training"), scrollable(table, label))


def _speeds(run: RunData) -> dict[str, str]:
    speeds = {model: history.median_speed for model, history in run.histories.items()}
    return {model: f"{speed:,.0f}" for model, speed in speeds.items() if speed is not None}


def _times(run: RunData) -> dict[str, str]:
    return {model: duration(history.seconds) for model, history in run.histories.items() if history.speeds}


def _ends(run: RunData) -> dict[str, str]:
    ends = {model: minute(seconds) for model, seconds in run.ended.items()}
    return {model: end for model, end in ends.items() if end is not None}


def quota_table(run: RunData) -> Markup:
    """Planned and realized sequences of every model's own part of the plan, and the largest gap."""
    head = ("model", "corpus", "planned", "realized", "share", "largest gap")
    rows = []
    for model in run.histories:
        own = list(_quota_rows(run, model))
        for index, cells in enumerate(own):
            name = element("th", swatch(run, model), model, scope="rowgroup", rowspan=len(own)) if not index else None
            rows.append(element("tr", name, [element("td", cell) for cell in cells]))
    table = element(
        "table",
        element("caption", "Planned and realized sequences", class_="unseen"),
        element("thead", element("tr", [element("th", text, scope="col") for text in head])),
        element("tbody", rows),
        class_="quota",
    )
    return scrollable(table, "Planned and realized sequences")


def _quota_rows(run: RunData, model: str) -> Iterator[tuple[str, ...]]:
    """Corpus, planned, realized, share and largest gap, in sequences of each context since the model's start."""
    own = {name for _, shares in run.recipe.own_shares(model) for name, share in shares.items() if share}
    history = run.histories[model]
    for context in dict.fromkeys(stage.context for stage in history.stages.values()):
        bins = history.bins_of(context)
        total = sum(sum(item.counts.values()) for item in bins)
        for corpus in run.recipe.corpora:
            taken = sum(item.counts.get(corpus, 0) for item in bins)
            if bins and (taken or corpus in own):
                planned, gap = _against_plan(run, model, corpus, context)
                name = partition_name(corpus, context, run.recipe.model.context)
                yield name, f"{planned:,.1f}", f"{taken:,}", f"{taken / max(total, 1):.2%}", f"{gap:.2f}"


def _against_plan(run: RunData, model: str, corpus: str, context: int) -> tuple[float, float]:
    """Sequences of a context planned for a model's own part, and the largest cumulative gap, including the base's."""
    variant = None if model == BASE else model

    def quota(tokens: int) -> float:
        return float(quota_at(run.recipe, variant, corpus, sequences_at(run.recipe, variant, context, tokens), context))

    bins = run.histories[model].bins_of(context)
    before = [item for item in run.parent_history(model).bins_of(context) if model not in run.recipe.branches]
    start = quota(bins[0].start)
    taken = sum(item.counts.get(corpus, 0) for item in before) if before else start
    if model in run.recipe.branches:  # the bins of its parent may end elsewhere than at the fork
        plan = compile_plan(run.recipe, model)
        of_context = plan.counts[: plan.fork_step][plan.contexts[: plan.fork_step] == context]
        taken = int(of_context[:, plan.corpora.index(corpus)].sum()) if corpus in plan.corpora else 0
    gaps = []
    for item in bins:
        taken += item.counts.get(corpus, 0)
        gaps.append(abs(taken - quota(item.end)))
    return quota(bins[-1].end) - start, max(gaps)
