"""At which steps the models of a family see a text: by the index and the inverse of the sampler, without a walk."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from tinyllama.corpus.documents import DocumentIndex
from tinyllama.corpus.manifest import SPLITS, TRAIN
from tinyllama.corpus.reading import read_texts
from tinyllama.fidelity.trained import trained_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tinyllama.corpus.documents import IndexedDocument
    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.fidelity.run import OpenRun
    from tinyllama.fidelity.trained import TrainedSteps, Update
    from tinyllama.tokenizer.base import Tokenizer


@dataclass(frozen=True)
class Occurrence:
    """A text in a corpus, as far as one row predicts it; a longer text is in several rows."""

    text: str
    """What was looked for."""
    corpus: str
    """Its name, as `name@context` for training rows whose context is not the model's own."""
    split: str
    """`train`, or `held_out`: never seen."""
    origin: str
    document: int
    """Index among the documents of the split."""
    row: int | None
    """Index among the training rows of this context; None if it is held out."""
    steps: dict[str, list[int]]
    """Model → steps, counted from 1, that are fed the row; a variant's path begins with the base's. The model saw it at
    those that are neither skipped nor later."""
    skipped: dict[str, list[int]]
    """Model → those of its steps whose update was skipped or undone by a rollback; only models that have some."""
    later: dict[str, list[int]]
    """Model → those of its steps that are not trained yet; only models that have some."""


def find_document(runs: Sequence[OpenRun], origin: str, splits: Sequence[str] = SPLITS) -> list[Occurrence]:
    """The rows and steps of the documents whose origin is exactly this.

    Raises:
        CorpusError: a corpus is not here or damaged.
    """
    models = _Models(runs)
    return [
        occurrence
        for corpus, split in models.parts(splits)
        for document in DocumentIndex(corpus, split).of_origin(origin)
        for occurrence in models.occurrences(
            corpus, _unseen(origin, corpus, split, document), document.start, document.start + document.tokens
        )
    ]


def find_texts(
    runs: Sequence[OpenRun], texts: Sequence[str], splits: Sequence[str] = SPLITS, say: Callable[[str], None] = print
) -> Iterator[Occurrence]:
    """The rows and steps of texts, found by reading the corpora.

    Args:
        runs: models of one family.
        texts: what to look for, each inside one document.
        splits: where to look.
        say: receives the progress.

    Raises:
        CorpusError: a corpus is not here, damaged, or of another tokenizer.
    """
    tokenizer, models = runs[0].tokenizer, _Models(runs)
    for corpus, split in models.parts(splits):
        index, total = DocumentIndex(corpus, split), corpus.tokens(split)
        for document in read_texts(corpus, tokenizer, split):
            say(f"corpus {corpus.name}, {split}: {document.start / total:.0%} of {total:,} tokens")
            for text in texts:
                if text not in document.text:
                    continue
                (entry,) = index.overlapping(document.start, document.start + 1)
                ids = corpus.stream(split).read(entry.start, entry.tokens).tolist()
                for begin, end in _spans(tokenizer, corpus, ids, text):
                    found = _unseen(text, corpus, split, entry)
                    yield from models.occurrences(corpus, found, entry.start + begin, entry.start + end)


class _Models:
    """Models of one family, and how far each is trained."""

    def __init__(self, runs: Sequence[OpenRun]) -> None:
        self._runs = runs

    @cached_property
    def _trained(self) -> dict[str, TrainedSteps]:
        return {run.model: trained_steps(run) for run in self._runs}

    def parts(self, splits: Sequence[str]) -> Iterator[tuple[PreparedCorpus, str]]:
        """The corpora that the models read, each in every split that has documents."""
        found = {corpus.folder: corpus for run in self._runs for corpus in run.corpora.values()}
        for corpus in found.values():
            for split in splits:
                if corpus.manifest.splits[split].documents:
                    yield corpus, split

    def occurrences(self, corpus: PreparedCorpus, found: Occurrence, start: int, end: int) -> Iterator[Occurrence]:
        """What was found at the tokens from `start` to `end` of a split, row by row, with the steps of each model.

        Plans are compiled of the models alone that read the corpus.
        """
        if found.split != TRAIN:
            yield found
            return
        own = {run.model: run.corpora.get(corpus.name) for run in self._runs}
        runs = [run for run in self._runs if (read := own[run.model]) is None or read.folder == corpus.folder]
        readers = [run for run in runs if own[run.model] is not None]
        for partition, context in self._runs[0].recipe.partitions(corpus.name).items():
            if not any(partition in run.plan.partitions for run in readers):
                continue
            rows = corpus.rows(TRAIN, context).predicting(start, end)
            visits = {run.model: run.visits(partition, rows) for run in readers}
            for index, row in enumerate(rows):
                steps = {run.model: visits[run.model][index] if run in readers else [] for run in runs}
                skipped, later = self._of("skipped", steps), self._of("later", steps)
                yield replace(found, corpus=partition, row=row, steps=steps, skipped=skipped, later=later)

    def _of(self, update: Update, steps: dict[str, list[int]]) -> dict[str, list[int]]:
        """Of each model's steps, those of whose update this became."""
        chosen = {
            model: [step for step in own if self._trained[model].update(step) == update] for model, own in steps.items()
        }
        return {model: own for model, own in chosen.items() if own}


def _spans(tokenizer: Tokenizer, corpus: PreparedCorpus, ids: list[int], text: str) -> Iterator[tuple[int, int]]:
    """The tokens of a document that spell each occurrence of a text: the shortest run of them, by bisection."""
    special = {corpus.manifest.bos_id, corpus.manifest.eos_id}

    def spelled(begin: int, end: int) -> str:
        return tokenizer.decode([token for token in ids[begin:end] if token not in special])

    for number in range(1, spelled(0, len(ids)).count(text) + 1):
        yield _span(spelled, len(ids), text, number)


def _span(spelled: Callable[[int, int], str], size: int, text: str, number: int) -> tuple[int, int]:
    """The shortest run of tokens of a document that ends the n-th occurrence of a text."""
    end = bisect_left(range(size), x=True, key=lambda end: spelled(0, end).count(text) >= number)
    length = bisect_left(range(end), x=True, key=lambda length: text in spelled(end - length, end))
    return end - length, end


def _unseen(text: str, corpus: PreparedCorpus, split: str, document: IndexedDocument) -> Occurrence:
    return Occurrence(text, corpus.name, split, document.origin, document.number, None, {}, {}, {})
