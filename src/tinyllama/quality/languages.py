"""The language and the script of a text: languages by py3langid, whose model is in its package."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

from tinyllama.quality.statistics import Language

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

_CHARACTERS = 4096
"""Characters that decide the language of a text."""


def identify(text: str) -> Language:
    """The language of a text's first characters."""
    return Language(*_identifier().classify(text[:_CHARACTERS]))


def known_languages() -> list[str]:
    """The codes of the languages that `identify` knows."""
    return sorted(_identifier().labels)


@cache
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # an extra

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def script_of(text: str) -> str:
    """The script of most letters in a text, by the first word of their names in Unicode: LATIN, CJK; "" without any."""
    scripts = Counter[str]()
    for character, count in Counter(text[:_CHARACTERS]).items():
        if character.isalpha():
            scripts[_script(character)] += count
    return max(scripts, key=lambda script: (scripts[script], script), default="")


@cache
def _script(letter: str) -> str:
    return unicodedata.name(letter, "OTHER").split()[0].split("-")[0]
