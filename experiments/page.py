"""The page of an experiment: its question and answer, a table of all runs, and a picture of each seed's result."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any

from experiments.plots import Plot, svg
from tinyllama.files import write_atomic
from tinyllama.report.markup import Markup, element
from tinyllama.text import markdown_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_ROW, _PANEL, _LABELS, _TOP = 22, 230, 250, 48  # pixels


@dataclass(frozen=True)
class Experiment:
    """A question, and the keys that each of its runs changes."""

    name: str
    question: str
    answer: str
    """What a person should do, with the size of the effect; empty while runs are missing."""
    baseline: str
    """The run, or the model of a run with several, that the others are compared with."""
    runs: dict[str, dict[str, Any]]
    curves: tuple[str, ...] = ()
    """Corpora whose held-out loss is drawn along the training."""
    frontier: tuple[str, ...] = ()
    """Two corpora whose bits per byte are drawn against each other."""
    once: tuple[str, ...] = ()
    """Runs with one seed: the other peaks of a sweep."""
    seeds: int = 3
    """Most seeds of a run."""
    scale: str = "4.1M tokens, models of 1.8 million weights"
    """Of each run."""


@dataclass(frozen=True)
class Measured:
    """What one model of a run came to."""

    bits_per_byte: dict[str, float]
    """Corpus → held-out bits per byte of the last weights."""
    held_out: list[tuple[int, dict[str, float]]]
    """Tokens seen, and the loss of each corpus in nats a token."""
    largest_grad_norm: float
    """Of the steps after the fork."""


@dataclass(frozen=True)
class Finished:
    """A run with one seed."""

    run: str
    seed: int
    seconds: float
    """Of all steps."""
    models: dict[str, Measured]


def result_file(results: Path, run: str, seed: int) -> Path:
    """Where the result of a run stands."""
    return results / f"{run.replace(', ', '-').replace(' ', '-').replace('%', '')}-{seed}.json"


def read_results(experiment: Experiment, results: Path) -> list[Finished]:
    """What has ended, in the order of the experiment's runs."""
    finished = []
    for path in results.glob("*.json"):
        stated = json.loads(path.read_text(encoding="utf-8"))
        models = {model: Measured(**measured) for model, measured in stated.pop("models").items()}
        finished.append(Finished(**stated, models=models))
    order = list(experiment.runs)
    return sorted(finished, key=lambda one: (order.index(one.run), one.seed))


def write_page(experiment: Experiment, results: Path) -> None:
    """Write the page and its picture from the results that are there, if there are any."""
    finished = read_results(experiment, results)
    if not finished:
        return
    found: dict[str, dict[int, Measured]] = {}  # name of a run, or of a model where a run has several → seed
    for one in finished:
        for model, measured in one.models.items():
            found.setdefault(one.run if len(one.models) == 1 else model, {})[one.seed] = measured
    corpora = list(next(iter(next(iter(found.values())).values())).bits_per_byte)
    write_atomic(results / "results.svg", _picture(found, corpora))
    pictures = ["![Bits per byte of each seed](results.svg)"]
    if experiment.curves:
        write_atomic(results / "curves.svg", svg([_curves(found, corpus) for corpus in experiment.curves]))
        pictures.append("![Held-out loss along the training, mean of the seeds](curves.svg)")
    if experiment.frontier:
        write_atomic(results / "frontier.svg", svg([_frontier(found, *experiment.frontier)]))
        pictures.append("![Bits per byte of two corpora against each other](frontier.svg)")
    seeds = max(map(len, found.values()))
    hours = sum(one.seconds for one in finished) / 3600
    answer = f"{experiment.answer} Seen with {experiment.scale}." if experiment.answer else "Not all runs have ended."
    compared = (
        f"the mean of the seeds with their standard deviation, and in brackets the mean difference from "
        f"`{experiment.baseline}` with the same seed, with its standard error. A difference below two standard errors "
        f"counts as none. Seeds: {seeds}, or as many as the table says"
        if seeds > 1
        else "one seed"
    )
    told = (
        f"Held-out bits per byte after equal tokens (lower is better): {compared}; {hours:.1f} hours of training steps,"
    )
    told += " where what several runs share counts for the first one."
    text = f"""# {experiment.question}

{fill(answer, 120)}

{fill(told, 120)}

{_table(experiment.baseline, found, corpora).rstrip()}

{chr(10).join(pictures)}

`python -m experiments.run {experiment.name}` repeats the runs that `experiments/{experiment.name}.yaml` states, and
with `--draw` writes this page from the JSON files beside it.
"""
    write_atomic(results / "README.md", text)


def difference(values: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error of paired differences; the error is infinite for fewer than two."""
    pairs = [one - other for one, other in zip(values, others, strict=True)]
    error = statistics.stdev(pairs) / math.sqrt(len(pairs)) if len(pairs) > 1 else math.inf
    return statistics.mean(pairs), error


def _table(baseline: str, found: dict[str, dict[int, Measured]], corpora: Sequence[str]) -> str:
    rows = []
    for run, by_seed in found.items():
        cells = [_cell(by_seed, found.get(baseline, {}), corpus, is_baseline=run == baseline) for corpus in corpora]
        norm = statistics.mean(one.largest_grad_norm for one in by_seed.values())
        rows.append([run, *cells, f"{norm:.2f}", str(len(by_seed))])
    return markdown_table(["run", *corpora, "largest gradient norm", "seeds"], rows)


def _cell(by_seed: dict[int, Measured], baseline: dict[int, Measured], corpus: str, *, is_baseline: bool) -> str:
    bits = [one.bits_per_byte[corpus] for one in by_seed.values()]
    mean = f"{statistics.mean(bits):.3f}" + (f" ± {statistics.stdev(bits):.3f}" if len(bits) > 1 else "")
    shared = sorted(by_seed.keys() & baseline.keys())
    if is_baseline or len(shared) < 2:
        return mean
    change, error = difference(*([of[seed].bits_per_byte[corpus] for seed in shared] for of in (by_seed, baseline)))
    told = f"{change:+.3f} ± {error:.3f}" if abs(change) >= 2 * error else "none"
    return f"{mean} ({told})"


def _picture(found: dict[str, dict[int, Measured]], corpora: Sequence[str]) -> str:
    """A panel for each corpus with a row for each run, and a dot for each seed."""
    height = _TOP + _ROW * len(found) + 10
    parts = [
        element("text", run, x=_LABELS - 10, y=_TOP + _ROW * row + 15, text_anchor="end")
        for row, run in enumerate(found)
    ]
    for column, corpus in enumerate(corpora):
        parts += _panel(
            corpus, {run: [one.bits_per_byte[corpus] for one in found[run].values()] for run in found}, column
        )
    width = _LABELS + _PANEL * len(corpora)
    style = Markup(
        "text{font:13px system-ui,sans-serif;fill:#555}circle{fill:#2f6fde;fill-opacity:.7}line{stroke:#bbb}"
    )
    return element(
        "svg", element("style", style), *parts, xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width} {height}"
    ) + Markup("\n")


def _panel(corpus: str, values: dict[str, list[float]], column: int) -> list[Markup]:
    low, high = (pick(map(pick, values.values())) for pick in (min, max))
    left, room = _LABELS + _PANEL * column, _PANEL - 50
    parts = [
        element("text", f"{corpus}, bits per byte", x=left, y=16),
        element("text", f"{low:.3f}", x=left, y=36),
        element("text", f"{high:.3f}", x=left + room, y=36, text_anchor="end"),
    ]
    for row, of_run in enumerate(values.values()):
        y = _TOP + _ROW * row + _ROW / 2
        parts.append(element("line", x1=left, x2=left + room, y1=y, y2=y))
        scale = room / (high - low or 1)
        parts += [element("circle", cx=f"{left + (value - low) * scale:.1f}", cy=y, r=4) for value in of_run]
    return parts


def _curves(found: dict[str, dict[int, Measured]], corpus: str) -> Plot:
    """The mean of the seeds that have a loss after the same tokens, from a third of the training on."""
    lines = {}
    for run, by_seed in found.items():
        losses: dict[int, list[float]] = {}
        for tokens, of_corpus in (record for one in by_seed.values() for record in one.held_out):
            losses.setdefault(tokens, []).append(of_corpus[corpus])
        whole = {tokens: statistics.mean(values) for tokens, values in losses.items() if len(values) == len(by_seed)}
        lines[run] = [(tokens / 1e6, loss) for tokens, loss in sorted(whole.items()) if tokens >= max(whole) / 3]
    return Plot(f"{corpus}, held-out loss in nats a token", "million tokens", lines)


def _frontier(found: dict[str, dict[int, Measured]], across: str, up: str) -> Plot:
    """The means of all runs, in their order."""
    points = [
        tuple(statistics.mean(one.bits_per_byte[corpus] for one in by_seed.values()) for corpus in (across, up))
        for by_seed in found.values()
    ]
    return Plot(f"{up}, bits per byte", f"{across}, bits per byte", {" → ".join(found): [(x, y) for x, y in points]})
