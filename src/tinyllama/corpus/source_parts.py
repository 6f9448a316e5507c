"""Which held-out documents of a corpus came from which of its sources."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import JsonValue

    from tinyllama.corpus.manifest import PreparedCorpus


class SourcePart(NamedTuple):
    """The held-out documents of one source."""

    name: str
    """Its files, or the name of a builtin source, as the recipe spells them; and what selects documents there."""
    documents: range
    """Their indices among the corpus's held-out documents."""


def held_out_parts(corpus: PreparedCorpus) -> list[SourcePart]:
    """The sources that have held-out documents, in order.

    None of them if the corpus has one source, or if a version prepared it that did not count them.
    """
    counts, sources = corpus.manifest.held_out_documents, corpus.manifest.request.model_extra
    spelled = (sources or {}).get("sources")
    if not isinstance(spelled, list) or not 1 < len(counts) == len(spelled):
        return []
    documents = [range(start, end) for start, end in pairwise(accumulate(counts, initial=0))]
    names = _names(spelled, corpus.manifest.replacements)
    return [SourcePart(name, own) for name, own in zip(names, documents, strict=True) if own]


def _names(sources: Sequence[JsonValue], replacements: Mapping[str, str]) -> list[str]:
    """A name for each source, or for what replaced it; those that are spelled alike are numbered."""
    names = []
    for source in sources:
        keys = source if isinstance(source, dict) else {}
        where = f" where {keys['where']}" if keys.get("where") else ""
        builtin = str(keys.get("builtin"))
        names.append(f"{keys.get('files') or replacements.get(builtin, builtin)}{where}")
    return [
        f"{name} ({names[: index + 1].count(name)})" if names.count(name) > 1 else name
        for index, name in enumerate(names)
    ]
