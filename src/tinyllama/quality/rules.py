"""Published rules for web pages, as datatrove implements them.

Rae et al. 2021 (Gopher, table A1 and section A.1.1), Raffel et al. 2020 (C4), Penedo et al. 2024 (FineWeb). Datatrove
counts words with spaCy, which is an order of magnitude slower; here a word is a run of letters and digits, and each
other character that is no white space is a word of its own, as spaCy's are for English but for contractions.
Sentences are divided by datatrove's own expression for all languages.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datatrove.pipeline.filters.base_filter import BaseFilter
    from datatrove.utils.word_tokenizers import WordTokenizer

    from tinyllama.recipe.filters import Rule


class Verdict(NamedTuple):
    """What a set of rules says of a text."""

    text: str
    """The text, without the lines that the rules removed."""
    broken: str
    """Datatrove's name of the rule that the text breaks; "" if it breaks none."""


def apply_rules(name: Rule, text: str, stop_words: Sequence[str]) -> Verdict:
    """Apply a set of rules to a text that is not white space alone.

    Args:
        name: the set.
        text: the text.
        stop_words: words of which `gopher` asks for two; none skips that rule.
    """
    from datatrove.data import Document

    document = Document(text, "")
    result = _filter(name, tuple(stop_words)).filter(document)
    if isinstance(result, tuple):
        return Verdict(document.text, "" if result[0] else result[1])
    return Verdict(document.text, "" if result else name)


@cache
def _filter(name: Rule, stop_words: tuple[str, ...]) -> BaseFilter:
    if name == "gopher":
        from datatrove.pipeline.filters.gopher_quality_filter import GopherQualityFilter

        least = 2 if stop_words else 0
        return GopherQualityFilter(stop_words=list(stop_words), min_stop_words=least, language=_words())
    if name == "gopher_repetition":
        from datatrove.pipeline.filters.gopher_repetition_filter import GopherRepetitionFilter

        return GopherRepetitionFilter(language=_words())
    if name == "c4":
        from datatrove.pipeline.filters.c4_filters import C4QualityFilter

        return C4QualityFilter(language=_words())
    from datatrove.pipeline.filters.fineweb_quality_filter import FineWebQualityFilter

    return FineWebQualityFilter(language=_words())


@cache
def _words() -> WordTokenizer:
    import regex
    from datatrove.utils.word_tokenizers import WhitespaceTokenizer

    tokenizer = WhitespaceTokenizer()  # whose words are spaCy's, but not its sentences
    tokenizer.word_tokenize = regex.compile(r"[\p{L}\p{M}\p{N}_]+|[^\p{L}\p{M}\p{N}_\s]").findall
    return tokenizer
