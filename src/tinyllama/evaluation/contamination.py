"""Evaluation questions that occur in a corpus: overlap of runs of 13 words (Brown et al. 2020, appendix C).

A text becomes words: case folded, letters and digits only; in scripts without spaces between words (Chinese,
Japanese) each character is a word. A question's text is the prompt with the right answer. A question
counts as contaminated if a document holds any 13 consecutive words of it. Questions of fewer than 13 words cannot
be told from common phrases and are counted apart.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from unicodedata import normalize

from tinyllama.evaluation.scores import MissingTask
from tinyllama.evaluation.task_data import TASK_DATA
from tinyllama.evaluation.task_fetching import provide
from tinyllama.evaluation.task_files import read_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tinyllama.corpus.reading import PreparedText

N = 13
"""Words in a run."""
METHOD = (
    f"{N}-word overlap: case folded, letters and digits only, Chinese and Japanese by character; a question (prompt "
    f"and right answer) is contaminated if a document holds any {N} consecutive words of it"
)
NAMED = 5
"""Documents that are named for each question."""

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")


@dataclass
class Overlap:
    """One task's questions against some corpora."""

    questions: int
    too_short: int
    found: dict[int, dict[str, list[str]]] = field(default_factory=dict)
    """Contaminated question → corpus → documents that hold a run of it (the first few)."""

    @property
    def contaminated(self) -> int:
        """Questions that a document holds a run of."""
        return len(self.found)

    @property
    def share(self) -> float | None:
        """Contaminated questions among those that are long enough to tell; None if there are none."""
        checked = self.questions - self.too_short
        return self.contaminated / checked if checked else None


def read_questions(
    tasks: Sequence[str], data: Path, include_path: Path | None = None
) -> tuple[dict[str, list[str]], dict[str, MissingTask]]:
    """Task → texts of its questions with their right answers, and the tasks whose data is not there.

    Args:
        tasks: names of tasks.
        data: folder with the local copies.
        include_path: folder of a user's own definitions in lm-eval's format.

    Raises:
        EvaluationError: a file has another layout than its task reads, or a definition cannot be loaded.
    """
    questions: dict[str, list[str]] = {}
    missing: dict[str, MissingTask] = {}
    ours = [name for name in tasks if name in TASK_DATA]
    if others := [name for name in tasks if name not in ours]:
        from tinyllama.evaluation.lm_eval_tasks import load_tasks  # needs lm-eval

        for name, task in load_tasks(others, include_path).items():
            if isinstance(task, MissingTask):
                missing[name] = task
            else:
                questions[name] = task.texts()
    for name, folder in provide(ours, data).items():
        if isinstance(folder, MissingTask):
            missing[name] = folder
        else:
            files = TASK_DATA[name].question_files(folder).values()
            questions[name] = [TASK_DATA[name].question(row) for file in files for row in read_rows(name, file)]
    return questions, missing


class QuestionIndex:
    """The runs of all questions, for look-ups of documents."""

    def __init__(self, questions: Mapping[str, list[str]]) -> None:
        """Index questions: task → their texts."""
        self.overlaps: dict[str, Overlap] = {}
        self._runs: dict[tuple[int, ...], set[tuple[str, int]]] = defaultdict(set)
        self._words: dict[str, int] = {}
        for task, texts in questions.items():
            split = [words(text) for text in texts]
            self.overlaps[task] = Overlap(len(texts), sum(len(found) < N for found in split))
            for number, found in enumerate(split):
                ids = [self._words.setdefault(word, len(self._words)) for word in found]
                for start in range(len(ids) - N + 1):
                    self._runs[tuple(ids[start : start + N])].add((task, number))

    def check(self, corpus: str, documents: Iterable[PreparedText]) -> None:
        """Look for the questions in a corpus's documents."""
        for document in documents:
            for task, question in set(self._hits(document.text)):
                places = self.overlaps[task].found.setdefault(question, {}).setdefault(corpus, [])
                if document.origin not in places and len(places) < NAMED:
                    places.append(document.origin)

    def _hits(self, text: str) -> Iterator[tuple[str, int]]:
        """Questions that a text holds a run of; only runs of words that occur in some question are compared."""
        run: deque[int] = deque(maxlen=N)
        for word in words(text):
            number = self._words.get(word)
            if number is None:
                run.clear()
                continue
            run.append(number)
            if len(run) == N:
                yield from self._runs.get(tuple(run), ())


def words(text: str) -> list[str]:
    """A text's words, as the comparison takes them; however accents and Hangul are composed."""
    return _WORD.findall(normalize("NFC", text.casefold()))
