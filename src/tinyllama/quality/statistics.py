"""Statistics of a text, by the names that `filters.where` uses."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from tinyllama.quality.overlap import words
from tinyllama.sources.documents import utf8_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

_ENDS = tuple(".!?\u2026\u3002\uff01\uff1f\u0964\u06d4\u061f\u17d4\u104b\u1362\u0589")
"""Marks that end sentences, in several scripts."""


class Language(NamedTuple):
    """What language a text is in."""

    code: str
    """ISO 639; `zxx` is no language, such as numbers and markup."""
    probability: float


class TextStatistics:
    """A text's statistics; each is computed when it is asked for. Means and shares of nothing are 0."""

    def __init__(self, text: str, identify: Callable[[str], Language]) -> None:
        """Bind a text; `identify` tells its language."""
        self._text, self._identify = text, identify
        self.characters = len(text)
        self._values: dict[str, Callable[[], str | float]] = {
            "characters": lambda: len(text),
            "bytes": lambda: utf8_bytes(text),
            "lines": lambda: len(self._lines),
            "words": lambda: len(self._words),
            "mean_word": lambda: _ratio(sum(map(len, self._words)), len(self._words)),
            "longest_word": lambda: max(map(len, text.split()), default=0),
            "mean_line": lambda: _ratio(sum(map(len, self._lines)), len(self._lines)),
            "longest_line": lambda: max(map(len, self._lines), default=0),
            "letters": lambda: _ratio(self._kinds["letter"], len(text)),
            "digits": lambda: _ratio(self._kinds["digit"], len(text)),
            "capitals": lambda: _ratio(self._kinds["capital"], self._kinds["letter"]),
            "spaces": lambda: _ratio(self._kinds["space"], len(text)),
            "symbols": lambda: _ratio(self._kinds["symbol"], len(text)),
            "different_words": lambda: _ratio(len(set(self._words)), len(self._words)),
            "repeated_lines": lambda: _ratio(len(self._lines) - len(set(self._lines)), len(self._lines)),
            "ended_lines": lambda: _ratio(sum(line.endswith(_ENDS) for line in self._lines), len(self._lines)),
            "language": lambda: self.language.code,
            "confidence": lambda: self.language.probability,
        }

    def __getitem__(self, name: str) -> str | float:
        """The value of a statistic."""
        return self._values[name]()

    @cached_property
    def language(self) -> Language:
        """The language of the text."""
        return self._identify(self._text)

    @cached_property
    def _lines(self) -> list[str]:
        return [line.strip() for line in self._text.splitlines() if not line.isspace() and line]

    @cached_property
    def _words(self) -> list[str]:
        return words(self._text)

    @cached_property
    def _kinds(self) -> Counter[str]:
        """Characters by kind; capitals are letters too."""
        kinds = Counter[str]()
        for character, count in Counter(self._text).items():
            kinds[_kind(character)] += count
            kinds["capital"] += count * character.isupper()
        return kinds


def _kind(character: str) -> str:
    if character.isalpha():
        return "letter"
    if character.isdigit():
        return "digit"
    return "space" if character.isspace() else "symbol"


def _ratio(part: float, whole: int) -> float:
    return part / whole if whole else 0.0
