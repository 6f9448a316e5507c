"""Checks of the text: its sources, and whether both parts of every corpus fill a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.corpus.manifest import HELD_OUT, SPLITS, TRAIN
from tinyllama.family.preflight.situation import Finding
from tinyllama.prepare.held_out import is_held_out
from tinyllama.sources.builtin.registry import replacement_of
from tinyllama.sources.checks import explain_nothing
from tinyllama.sources.documents import Document
from tinyllama.sources.rejected import Reasons

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tinyllama.family.preflight.situation import Situation
    from tinyllama.family.preflight.survey import Survey
    from tinyllama.recipe import Corpus, Recipe

_PART = {TRAIN: "training part", HELD_OUT: "held-out part"}
_BYTES_PER_TOKEN = 5
"""Of usual text; less text than this a token of a row is probably too little."""
_MANY = 1000
"""Documents that cannot be read, after which those of a whole corpus are judged by them."""
_CUTS = (4000, 2000, 1000, 500, 200, 100, 50)
"""Characters of a piece to advise, the longest that works."""
_BLOCKS = (16, 4, 1)
_FEW, _MOST_TRIED = 64, 1_000_000
"""Documents, and bytes of each, for which it is tried out which `cut` works."""


def check_sources(situation: Situation) -> Iterator[Finding]:
    """Files are there and hold text; remote sources answer; builtin sources that are unavailable are replaced."""
    needed = situation.trained_on(situation.models) if "train" in situation.phases else set[str]()
    for name, survey in situation.surveys.items():
        if survey.problem is not None:
            tolerated = survey.is_unavailable and (situation.skips_models or name not in needed)
            yield Finding(_named(name, survey.problem), is_fault=not tolerated)
        elif not sum(survey.documents.values()) and (survey.is_complete or len(survey.rejected) > _MANY):
            reasons = Reasons()
            for rejected in survey.rejected:
                reasons(rejected)
            yield Finding(explain_nothing(situation.recipe.corpora[name], name, reasons))
        else:
            yield from _replacements(situation.recipe, name)
    lacking = needed & situation.missing.keys()
    if lacking and not situation.skips_models:
        yield from (Finding(_named(name, situation.missing[name])) for name in sorted(lacking))


def _replacements(recipe: Recipe, name: str) -> Iterator[Finding]:
    """What is read instead of the builtin sources of a corpus that are unavailable."""
    for source in recipe.corpora[name].sources:
        if source.builtin is not None and (replacement := replacement_of(source.builtin)) is not None:
            missing = f"corpus {name}: {source.builtin} is unavailable, since {replacement.reason}"
            yield Finding(f"{missing}; {replacement} replaces it", is_fault=False)


def check_rows(situation: Situation) -> Iterator[Finding]:
    """Both parts of every corpus fill a row: exactly once they are prepared, before by what can be known."""
    recipe = situation.recipe
    for corpus in situation.corpora.values():
        for split, tokens in situation.short_parts(corpus).items():
            yield _too_short(recipe, corpus.name, split, f"has {tokens} tokens")
    used = situation.trained_on(tuple(recipe.models))
    for name, survey in situation.surveys.items():
        for split in SPLITS if name in used else (HELD_OUT,):
            yield from _expected(recipe, name, split, survey, recipe.longest_context + 1)


def _expected(recipe: Recipe, name: str, split: str, survey: Survey, wanted: int) -> Iterator[Finding]:
    """What the text that was seen says about a part of a corpus that is not prepared."""
    if survey.problem is not None or not survey.is_complete or not sum(survey.documents.values()):
        return
    documents, size = survey.documents[split], survey.bytes[split]
    if not documents:
        found = f"gets none of the {len(survey.groups)} documents" if len(survey.groups) > 1 else "gets no text"
        yield _too_short(recipe, name, split, found, survey.groups)
    elif survey.most_tokens(split) < wanted:
        yield _too_short(recipe, name, split, f"has {size} bytes of text", survey.groups)
    elif size < _BYTES_PER_TOKEN * wanted:
        text = _too_short(recipe, name, split, f"has only {size} bytes of text", survey.groups).text
        yield Finding(text.replace("which is less than", "which is probably less than"), is_fault=False)


def _too_short(recipe: Recipe, name: str, split: str, found: str, groups: Mapping[str, int] | None = None) -> Finding:
    corpus, context = recipe.corpora[name], recipe.longest_context
    return Finding(
        f"corpora.{name}: the {_PART[split]} {found}, which is less than a row of {context + 1} tokens; "
        f"{_remedy(corpus, name, groups or {}, context)}"
    )


def _remedy(corpus: Corpus, name: str, groups: Mapping[str, int], context: int) -> str:
    """How to hold out enough: blocks of documents that are few and long, or more text."""
    more = "give it more text, change held_out.share, or lower model.context or a stage's context"
    if corpus.held_out.by == "document" or corpus.cut is None:
        if groups and (works := _working_cut(corpus, name, groups, context)):
            cut, block = works
            settings = f"{{share: {float(corpus.held_out.share * 100):g}%, by: block, block: {block}}}"
            return f"hold out blocks of a document: cut: {cut}, held_out: {settings}"
        if not groups:
            return f"hold out blocks of a document (e.g. cut: {_CUTS[1]}, held_out.by: block), or {more}"
    return more


def _working_cut(corpus: Corpus, name: str, groups: Mapping[str, int], context: int) -> tuple[int, int] | None:
    """The longest pieces and blocks with which both parts probably fill a row: (cut, block)."""
    if len(groups) > _FEW:
        return None
    for block in _BLOCKS:
        rule = corpus.held_out.model_copy(update={"by": "block", "block": block})
        for cut in _CUTS:
            parts = dict.fromkeys((True, False), 0)
            for group, size in groups.items():
                for part in range(min(size, _MOST_TRIED) // cut):
                    parts[is_held_out(Document("", group, group, part), rule, name)] += cut
            if min(parts.values()) >= _BYTES_PER_TOKEN * (context + 1):
                return cut, block
    return None


def _named(name: str, problem: str) -> str:
    """A problem that names its corpus."""
    return problem if f"corpus {name}" in problem else f"corpus {name}: {problem}"
