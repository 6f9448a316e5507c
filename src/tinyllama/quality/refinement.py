"""Selects and changes documents before they become tokens: filters, masked addresses, questions of tasks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from tinyllama.quality.languages import identify
from tinyllama.quality.overlap import N
from tinyllama.quality.private_data import mask_addresses
from tinyllama.quality.rules import apply_rules
from tinyllama.quality.statistics import TextStatistics
from tinyllama.recipe import Filter
from tinyllama.sources.rejected import Rejected, excerpt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tinyllama.quality.overlap import QuestionIndex
    from tinyllama.recipe import Corpus, Filters
    from tinyllama.sources.documents import Document
    from tinyllama.sources.rejected import Reject

SHORTENED, MASKED = "shortened", "masked"
"""Counts of documents that were changed and kept; they have no entries in the quarantine."""


class Refinement:
    """What the keys of a corpus do to each of its documents; the result depends on the document alone."""

    def __init__(self, corpus: Corpus, questions: QuestionIndex | None = None) -> None:
        """Bind the keys of a corpus, and the questions of the tasks in `decontaminate`."""
        self._filters, self._masks, self._questions = corpus.filters, corpus.pii is not None, questions
        stated = corpus.filters.where if corpus.filters is not None else None
        self._where = Filter(stated) if stated is not None else None
        self.counts = Counter[str]()
        """Documents that were dropped, by reason, and those that were changed."""

    def __call__(self, documents: Iterable[Document], reject: Reject) -> Iterator[Document]:
        """The documents that are kept, as they are kept; the others are passed to `reject`."""
        for document in documents:
            filtered, broken, dropped = document.text, "", None
            if self._filters is not None:
                filtered, broken = self._filtered(document.text, self._filters)
            if broken:
                dropped = Rejected(document.origin, f"dropped by filters.{broken}", excerpt(document.text), "filtered")
            masked = mask_addresses(filtered) if self._masks and dropped is None else filtered
            if dropped is None and self._questions is not None:
                dropped = _contaminated(document.origin, masked, self._questions)
            if dropped is not None:
                self.counts[dropped.reason] += 1
                reject(dropped)
                continue
            self.counts[SHORTENED] += filtered != document.text
            self.counts[MASKED] += masked != filtered
            yield document if masked == document.text else replace(document, text=masked)

    def _filtered(self, text: str, filters: Filters) -> tuple[str, str]:
        """A text without the lines that rules remove, and the filter that drops it, or ""."""
        found = TextStatistics(text, identify)
        if reason := next(_limits(found, filters), ""):
            return text, reason
        left = text
        for rules in filters.rules:
            left, broken = apply_rules(rules, left, filters.stop_words)
            if broken:
                return text, f"rules: {rules} ({broken})"
        return left, self._selected(found if left == text else TextStatistics(left, identify))

    def _selected(self, found: TextStatistics) -> str:
        """The filter `where`, if it drops a text, or ""."""
        try:
            return "" if self._where is None or self._where.keeps(found.__getitem__) else "where: is false"
        except ValueError as error:
            return f"where: {error}"


def _limits(found: TextStatistics, filters: Filters) -> Iterator[str]:
    """The filters with limits that a text does not meet."""
    if filters.min_characters is not None and found.characters < filters.min_characters:
        yield "min_characters: the text is shorter"
    if filters.max_characters is not None and found.characters > filters.max_characters:
        yield "max_characters: the text is longer"
    if filters.languages and found.language.code not in filters.languages:
        yield f"languages: the language is {found.language.code}"
    if filters.languages and found.language.probability < filters.confidence:
        yield f"confidence: the language is less surely {found.language.code}"


def _contaminated(origin: str, text: str, questions: QuestionIndex) -> Rejected | None:
    """The entry of a text that holds a question; of several questions, the first by name and number."""
    hits = min(set(questions.hits(text)), default=None)
    if hits is None:
        return None
    task, question = hits
    reason = f"dropped by decontaminate: {N} words of a question of {task}"
    return Rejected(origin, reason, excerpt(text), "contaminated", f"{task}, question {question}")
