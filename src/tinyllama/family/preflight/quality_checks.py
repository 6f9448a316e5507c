"""Checks of the keys that select documents by their text: their packages, languages and tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.errors import EvaluationError, UserError
from tinyllama.evaluation.catalogue import expand_tasks
from tinyllama.evaluation.contamination import read_questions
from tinyllama.family.preflight.situation import Finding
from tinyllama.quality.languages import known_languages
from tinyllama.quality.requirements import missing_packages, refuse_missing_packages
from tinyllama.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tinyllama.family.preflight.situation import Situation
    from tinyllama.recipe import Corpus


def check_quality(situation: Situation) -> Iterator[Finding]:
    """What the corpora that are not prepared need for their keys is there."""
    for name in situation.surveys:
        corpus = situation.recipe.corpora[name]
        try:
            refuse_missing_packages(corpus, name)
        except UserError as error:
            yield situation.needed_by("prepare", str(error))
        if "py3langid" not in missing_packages(corpus):
            yield from _unknown_languages(corpus, name)
        if corpus.decontaminate:
            yield from _missing_questions(situation, corpus, name)


def _unknown_languages(corpus: Corpus, name: str) -> Iterator[Finding]:
    if corpus.filters is None or not corpus.filters.languages:
        return
    known = known_languages()
    if unknown := [code for code in corpus.filters.languages if code not in known]:
        yield Finding(
            f"corpora.{name}.filters.languages: py3langid knows no language {unknown[0]!r}"
            f"{did_you_mean(unknown[0], known)}; it knows {', '.join(known)}"
        )


def _missing_questions(situation: Situation, corpus: Corpus, name: str) -> Iterator[Finding]:
    key = f"corpora.{name}.decontaminate"
    try:
        _, missing = read_questions(expand_tasks(corpus.decontaminate), situation.data)
    except EvaluationError as error:
        yield situation.needed_by("prepare", f"{key}: {error}")
        return
    for task, found in missing.items():
        yield situation.needed_by("prepare", f"{key}: the questions of {task} are unavailable: {found.reason}")
