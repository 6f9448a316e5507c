"""Read a family's folder for the report; missing data is shown on the page instead of raised."""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field, replace
from operator import itemgetter
from statistics import median
from typing import TYPE_CHECKING, TypeVar

from tinyllama.corpus.manifest import HELD_OUT, MANIFEST, read_manifest
from tinyllama.errors import CorpusError, EvaluationError, ModelError, NewerFormatError, TrainingError
from tinyllama.evaluation.record_folder import read_records_by_tokens
from tinyllama.layout import BASE, SAMPLES, FamilyLayout, average_of
from tinyllama.report.samples import read_samples
from tinyllama.report.summary import FamilySummary, read_summary
from tinyllama.train.metrics import read_metrics
from tinyllama.train.process import read_process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tinyllama.corpus.manifest import CorpusManifest
    from tinyllama.evaluation.scores import TaskScores
    from tinyllama.recipe import Recipe
    from tinyllama.report.samples import Samples
    from tinyllama.train.metrics import Record, SpikeRecord, StepRecord

_Content = TypeVar("_Content")

_NO_SUMMARY = "the models have not been evaluated yet; `tinyllama report` does that"
_NO_SAMPLES = "no model has continued the recipe's prompts yet; `tinyllama report` has them do that"

_MOST_SECONDS = 1e9
"""A step that took longer is no step of this century."""
POINTS = 300
"""Minimum number of points per stage of a long series; the maximum is twice as many."""


@dataclass
class Bin:
    """A run of consecutive steps of one stage."""

    start: int
    """Tokens seen before the bin."""
    end: int
    steps: int
    loss: float
    """Mean loss over the steps."""
    lr: float
    """Learning rate of the last step."""
    counts: dict[str, int]
    """Sequences from each corpus."""

    def merged(self, following: Bin) -> Bin:
        """Merge this bin and the next."""
        steps = self.steps + following.steps
        names = self.counts | following.counts
        return Bin(
            start=self.start,
            end=following.end,
            steps=steps,
            loss=(self.loss * self.steps + following.loss * following.steps) / max(steps, 1),
            lr=following.lr,
            counts={name: self.counts.get(name, 0) + following.counts.get(name, 0) for name in names},
        )


@dataclass
class StageHistory:
    """The steps of one stage, in bins that double in size when there are too many of them."""

    batch: int
    """Sequences per step."""
    context: int
    """Tokens of a sequence."""
    bins: list[Bin] = field(default_factory=list)
    steps_per_bin: int = 1
    unplaced: Bin | None = None
    """Skipped steps before the first point."""

    def add(self, step: Bin) -> None:
        """Add one step."""
        if self.unplaced is not None:
            step, self.unplaced = self.unplaced.merged(step), None
        if self.bins and self.bins[-1].steps < self.steps_per_bin:
            self.bins[-1] = self.bins[-1].merged(step)
        else:
            self.bins.append(step)
        if len(self.bins) > 2 * POINTS:
            self.bins = coarsen(self.bins, POINTS)
            self.steps_per_bin *= 2

    def skip(self, start: int, end: int, counts: dict[str, int]) -> None:
        """Add the sequences of a skipped step, which has no loss, to the previous point, or else to the first."""
        if self.bins:
            last = self.bins[-1]
            self.bins[-1] = last.merged(Bin(last.end, end, 0, 0.0, last.lr, counts))
        else:
            skipped = Bin(start, end, 0, 0.0, 0.0, counts)
            self.unplaced = skipped if self.unplaced is None else self.unplaced.merged(skipped)


@dataclass
class History:
    """One model's metrics: stages in order, held-out losses by tokens, and spikes."""

    stages: dict[str, StageHistory] = field(default_factory=dict)
    held_out: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    spikes: list[SpikeRecord] = field(default_factory=list)
    """Steps that were skipped as such."""
    overflows: int = 0
    """Steps that were skipped since fp16 gradients overflowed."""
    speeds: array[float] = field(default_factory=lambda: array("d"))
    """Tokens per second of each step."""
    seconds: float = 0.0
    """Of all steps, and of the checkpoints before them."""

    @property
    def bins(self) -> list[Bin]:
        """Bins of all stages."""
        return [item for stage in self.stages.values() for item in stage.bins]

    def bins_of(self, context: int) -> list[Bin]:
        """Bins of the stages of a context."""
        return [item for stage in self.stages.values() if stage.context == context for item in stage.bins]

    @property
    def median_speed(self) -> float | None:
        """Tokens per second of the median step; None without a step."""
        return median(self.speeds) if self.speeds else None

    @property
    def steps_per_point(self) -> int:
        """The largest number of steps behind one point."""
        return max((stage.steps_per_bin for stage in self.stages.values()), default=1)


@dataclass(frozen=True)
class RunData:
    """All data that the report shows."""

    recipe: Recipe
    summary: FamilySummary
    """Empty if summary.json cannot be read; `missing` then holds the reason."""
    histories: dict[str, History]
    """Histories of the models that have metrics."""
    samples: Samples
    missing: dict[str, str]
    """File → reason why it could not be read, in words for the page."""
    by_tokens: dict[str, list[tuple[int, TaskScores]]] = field(default_factory=dict)
    """Model → (tokens, task scores) measured during training, in order."""
    bytes_per_token: dict[str, float] = field(default_factory=dict)
    """Corpus → bytes of text for each token of its held-out part; empty where the corpora are not in the folder."""
    samples_by_tokens: dict[str, list[tuple[int, Samples]]] = field(default_factory=dict)
    """Model → (tokens, continuations) written during training, in order."""
    replaced: dict[str, str] = field(default_factory=dict)
    """Corpus and builtin source that was unavailable → the text that was read instead."""
    selection: dict[str, dict[str, int]] = field(default_factory=dict)
    """Corpus → documents that are kept, changed, and dropped for each reason; of corpora whose keys select text."""
    ended: dict[str, float] = field(default_factory=dict)
    """Model → when its training ended with its last step, in seconds since 1970; of models whose record tells it."""

    @property
    def models(self) -> list[str]:
        """`base`, then the variants and branches."""
        return self.recipe.models

    @property
    def measured(self) -> list[str]:
        """The models, each followed by the average of its weights if there is one."""
        names = [name for model in self.models for name in (model, average_of(model))]
        return [name for name in names if name in {*self.models, *self.summary.models}]

    def parent_history(self, model: str) -> History:
        """History of the model that a model forks from; empty for the base, and if there is none."""
        return self.histories.get(self.recipe.parent(model), History()) if model != BASE else History()

    def fork_tokens(self, model: str) -> int:
        """Tokens seen where a model forks."""
        return self.recipe.fork_tokens(model)

    @property
    def reference(self) -> str:
        """The first variant or branch, which the others are compared with; the base where nothing forks from it."""
        return [*self.models[1:], BASE][0]


def read_run(run: Path, recipe: Recipe) -> RunData:
    """Read a family's folder.

    Raises:
        ModelError: the folder does not exist.
    """
    results = read_results(run, recipe)
    missing: dict[str, str] = {}
    histories = {}
    for model in recipe.models:
        own = {stage.name: recipe.context(stage) for stage in recipe.line(model).stages}
        contexts = defaultdict(lambda: recipe.model.context, own)  # a stage may have been renamed
        if history := _read_history(run, f"{model}/metrics.jsonl", contexts, missing):
            histories[model] = history
    ended = _read_ends(run, recipe, missing)
    return replace(results, histories=histories, missing=missing | results.missing, ended=ended)


def read_results(run: Path, recipe: Recipe) -> RunData:
    """Read a family's folder without the metrics of its training: what `read_run` reads at once at any length.

    Raises:
        ModelError: the folder does not exist.
    """
    if not run.is_dir():
        raise ModelError(f"{run} does not exist; start a run with: tinyllama reproduce {recipe.name}")
    missing: dict[str, str] = {}
    layout = FamilyLayout(run)
    summary = _read(layout.summary, run, missing, read_summary, _NO_SUMMARY) or FamilySummary()
    samples = _read(layout.samples, run, missing, read_samples, _NO_SAMPLES)
    by_tokens = _read_by_tokens(run, recipe, missing)
    manifests = _read_manifests(layout, recipe)
    return RunData(
        recipe=recipe,
        summary=summary,
        histories={},
        samples=samples.samples if samples else {},
        missing=missing,
        by_tokens=by_tokens,
        bytes_per_token={name: _bytes_per_token(manifest) for name, manifest in manifests.items()},
        samples_by_tokens=_read_samples_by_tokens(run, recipe, missing),
        replaced={
            f"{name}: {builtin}": text
            for name, manifest in manifests.items()
            for builtin, text in manifest.replacements.items()
        },
        selection={name: _selection(manifest) for name, manifest in manifests.items() if manifest.quality is not None},
    )


def coarsen(bins: list[Bin], points: int) -> list[Bin]:
    """Merge adjacent pairs until at most 2 · `points` bins remain."""
    while len(bins) > 2 * points:
        pairs = [bins[i : i + 2] for i in range(0, len(bins), 2)]
        bins = [pair[0].merged(pair[1]) if len(pair) == 2 else pair[0] for pair in pairs]
    return bins


def _read(
    path: Path, run: Path, missing: dict[str, str], reader: Callable[[Path], _Content], absent: str = ""
) -> _Content | None:
    """The content of a file in the folder; None, with the reason in `missing`, if it cannot be read.

    Args:
        path: of the file.
        run: the folder.
        missing: receives the reason.
        reader: of the file.
        absent: the reason if there is no file, in words for the page.
    """
    name = path.relative_to(run).as_posix()
    try:
        return reader(path)
    except FileNotFoundError:
        missing[name] = absent or f"{name} does not exist"
    except ModelError as error:
        missing[name] = str(error).removeprefix(f"{run}/")  # the page shows no path of this machine
    return None


def _read_by_tokens(run: Path, recipe: Recipe, missing: dict[str, str]) -> dict[str, list[tuple[int, TaskScores]]]:
    found = {}
    for model in recipe.models:
        folder = FamilyLayout(run).scores_by_tokens(model)
        try:
            records = read_records_by_tokens(folder)
        except EvaluationError as error:
            missing[folder.relative_to(run).as_posix()] = str(error)
            continue
        if records:
            found[model] = [(record.source.tokens or 0, record.scores) for record in records]
    return found


def _read_manifests(layout: FamilyLayout, recipe: Recipe) -> dict[str, CorpusManifest]:
    """The newest manifest of each corpus that is in the folder."""
    found = {}
    for name in recipe.corpora:
        with suppress(IndexError, FileNotFoundError, CorpusError):
            found[name] = read_manifest(layout.corpus_versions(name)[-1] / MANIFEST)
    return found


def _bytes_per_token(manifest: CorpusManifest) -> float:
    held_out = manifest.splits[HELD_OUT]
    return held_out.bytes / max(1, held_out.tokens)


def _selection(manifest: CorpusManifest) -> dict[str, int]:
    quality = manifest.quality
    if quality is None:
        return {}
    kept = sum(split.documents for split in manifest.splits.values())
    counts = {"kept": kept, "kept, without lines": quality.shortened, "kept, with addresses masked": quality.masked}
    return {name: count for name, count in counts.items() if count} | quality.dropped


def _read_samples_by_tokens(run: Path, recipe: Recipe, missing: dict[str, str]) -> dict[str, list[tuple[int, Samples]]]:
    found = {}
    for model in recipe.models:
        paths = FamilyLayout(run).scores_by_tokens(model).glob(f"*/{SAMPLES}")
        read = [(int(path.parent.name), _read(path, run, missing, read_samples)) for path in paths]
        if samples := sorted(((tokens, file.samples) for tokens, file in read if file is not None), key=itemgetter(0)):
            found[model] = samples
    return found


def _read_ends(run: Path, recipe: Recipe, missing: dict[str, str]) -> dict[str, float]:
    """When the training of each model ended that reached its last step; not of those that a branch may train again."""
    found = {}
    parents = {branch.parent for branch in recipe.branches.values()}
    for model in [model for model in recipe.models if model not in parents]:
        path = FamilyLayout(run).process(model)
        try:
            process = read_process(path)
        except (TrainingError, NewerFormatError) as error:
            missing[path.relative_to(run).as_posix()] = str(error).removeprefix(f"{run}/")
            continue
        if process is not None and process.outcome == "finished" and process.ended is not None:
            found[model] = process.ended
    return found


def _read_history(run: Path, name: str, contexts: Mapping[str, int], missing: dict[str, str]) -> History | None:
    history = History()
    if not (run / name).is_file():
        missing[name] = f"{name.partition('/')[0]} has not been trained here: {name} does not exist"
        return None
    try:
        for record in read_metrics(run / name):
            _add(record, contexts, history)
    except (OSError, TrainingError) as error:
        missing[name] = f"{str(error).removeprefix(f'{run}/')}; its curves end before it"
    return history if history.stages or history.held_out else None


def _add(record: Record, contexts: Mapping[str, int], history: History) -> None:
    """Add a record to the history; `contexts` are those of the stages."""
    if record.kind == "held_out":
        losses = {name: loss for name, loss in record.losses.items() if math.isfinite(loss)}
        history.held_out.append((record.tokens, losses))
    elif record.kind == "spike":
        history.spikes.append(record)
        counts = Counter(row.rpartition(":")[0].partition("@")[0] for row in record.rows)
        _skip(history, record.stage, record.tokens, counts, contexts[record.stage])
    elif record.kind == "overflow":
        history.overflows += 1
        _skip(history, record.stage, record.tokens, record.counts, contexts[record.stage])
    else:
        stage = history.stages.setdefault(record.stage, StageHistory(record.batch, contexts[record.stage]))
        start = record.tokens - record.batch * stage.context
        stage.add(Bin(start, record.tokens, 1, record.loss, record.lr, record.counts))
        _add_time(record, history)


def _add_time(step: StepRecord, history: History) -> None:
    """Add a step's time, unless an edited file has one that is no time."""
    seconds = step.seconds + step.checkpoint_seconds
    if math.isfinite(step.tokens_per_second) and 0 <= seconds < _MOST_SECONDS:
        history.speeds.append(step.tokens_per_second)
        history.seconds += seconds


def _skip(history: History, stage: str, end: int, counts: dict[str, int], context: int) -> None:
    """Count the sequences of a skipped step that ended at `end` tokens."""
    batch = sum(counts.values())
    history.stages.setdefault(stage, StageHistory(batch, context)).skip(end - batch * context, end, counts)
