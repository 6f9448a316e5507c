"""Where everything lies in a family's folder: the one place that spells its paths."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import count, takewhile
from pathlib import Path

REPORT_TITLE = "TinyLlama family report"
SCRIPT_MARK = "# Written by `tinyllama launch`"
"""By these, earlier reports and batch scripts are recognized."""
BASE = "base"
"""The model that the variants fork from; every other model of a family is a variant, by its name."""

SAMPLES = "samples.json"
"""Continuations of the recipe's prompts, by all models or, among the records by tokens, by one checkpoint."""
_AVERAGE = "@average"
"""No name has an `@`."""


def average_of(model: str) -> str:
    """The name under which the average of a model's weights is kept, evaluated and exported."""
    return f"{model}{_AVERAGE}"


def averaged(name: str) -> str:
    """The model that a name stands for, or for the average of whose weights."""
    return name.removesuffix(_AVERAGE)


@dataclass(frozen=True)
class FamilyLayout:
    """Paths in the folder of a family: `runs/<recipe>` unless another folder is named."""

    root: Path

    @property
    def recipe(self) -> Path:
        """The recipe that the checkpoints were made with, for readers that are given these alone."""
        return self.root / "recipe.yaml"

    @property
    def seconds(self) -> Path:
        """Time spent per phase."""
        return self.root / "seconds.json"

    @property
    def summary(self) -> Path:
        """The figures of the family, for programs."""
        return self.root / "summary.json"

    @property
    def report(self) -> Path:
        """The report, for people."""
        return self.root / "report.html"

    @property
    def tokenizer(self) -> Path:
        """Folder of the family's tokenizer."""
        return self.root / "tokenizer"

    @property
    def imported_tokenizer(self) -> Path:
        """Folder of the tokenizer that came with the model that training starts from."""
        return self.root / "imported"

    @property
    def corpora(self) -> Path:
        """Folder of the prepared corpora."""
        return self.root / "corpora"

    @property
    def fixed(self) -> list[Path]:
        """The paths that do not depend on the name of a model or corpus: those of all properties."""
        names = [name for name, value in vars(type(self)).items() if isinstance(value, property) and name != "fixed"]
        return [getattr(self, name) for name in names]

    def studio_log(self, stamp: str) -> Path:
        """What a command printed that the studio started for the family."""
        return self.root / f"studio-{stamp}.log"

    def corpus(self, name: str, version: int = 1) -> Path:
        """Folder of one prepared corpus: `<name>`, then `<name>@2` and so on for those that were prepared later."""
        return self.corpora / (name if version == 1 else f"{name}@{version}")

    def corpus_versions(self, name: str) -> list[Path]:
        """The folders of a corpus that exist, oldest first: without a gap, since none is ever deleted."""
        return list(takewhile(Path.is_dir, map(partial(self.corpus, name), count(1))))

    def model(self, name: str) -> Path:
        """Folder of one model's training: metrics, checkpoints, TensorBoard's files."""
        return self.root / name

    def checkpoints(self, model: str) -> Path:
        """Folder of one model's checkpoints."""
        return self.model(model) / "checkpoints"

    def metrics(self, model: str) -> Path:
        """One model's metrics, a JSON record a line."""
        return self.model(model) / "metrics.jsonl"

    def metric_columns(self, model: str) -> Path:
        """Folder of the columnar copy of one model's metrics, which the studio makes."""
        return self.model(model) / "metrics.columns"

    def tensorboard(self, model: str) -> Path:
        """Folder of one model's TensorBoard files."""
        return self.model(model) / "tensorboard"

    def trackers(self, model: str) -> Path:
        """The runs of trackers that receive one model's metrics."""
        return self.model(model) / "trackers.json"

    def process(self, model: str) -> Path:
        """The process that trains one model, or trained it last."""
        return self.model(model) / "process.json"

    def profiles(self, model: str) -> Path:
        """Folder of the profiles of one model's steps."""
        return self.model(model) / "profiles"

    def evaluating(self, model: str) -> Path:
        """Folder of the copies of checkpoints that wait for their task scores."""
        return self.model(model) / "evaluating"

    @property
    def evaluation(self) -> Path:
        """Folder of what the family's models were measured at."""
        return self.root / "evaluation"

    def record(self, model: str) -> Path:
        """Folder of one model's evaluation record."""
        return self.evaluation / model

    @property
    def samples(self) -> Path:
        """Continuations of the recipe's prompts."""
        return self.evaluation / SAMPLES

    def scores_by_tokens(self, model: str) -> Path:
        """Folder of one model's evaluation records during training, a folder for each number of tokens."""
        return self.record(model) / "by_tokens"

    @property
    def exports(self) -> Path:
        """Folder of all exports."""
        return self.root / "exports"

    def export(self, name: str) -> Path:
        """Folder of one export."""
        return self.exports / name

    def export_marker(self, model: str) -> Path:
        """What one model's export was made of."""
        return self.exports / f"{model}.json"

    @property
    def slurm(self) -> Path:
        """Folder of batch scripts and job logs."""
        return self.root / "slurm"


def family_of_run(run: Path) -> FamilyLayout:
    """The family whose folder holds the folder of one model's training."""
    return FamilyLayout(run.parent)


def family_of_corpus(corpus: Path) -> FamilyLayout:
    """The family of a prepared corpus `<family>/corpora/<name>`."""
    return FamilyLayout(corpus.resolve().parents[1])


def is_batch_script(path: Path) -> bool:
    """Whether a file is a batch script that `tinyllama launch` wrote."""
    return SCRIPT_MARK in path.read_text(encoding="utf-8", errors="replace")
