"""How much of a text to hold out, so that its bits per byte are steady and every part fills rows."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from tinyllama.prepare.held_out import is_held_out
from tinyllama.recipe.text import HeldOut
from tinyllama.sources.documents import Document

if TYPE_CHECKING:
    from tinyllama.design.texts import TextSurvey

WANTED_TOKENS = 200_000
"""Held-out tokens to aim for: the mean loss of as many has a standard error below 0.01 nats."""
MOST_SHARE = Fraction(1, 10)
"""Of a text, what may be held out at most, unless less does not fill a row."""
_LEAST_ROWS = 8
_FEW = 50
"""Documents; of fewer, a hash may hold out none or half."""
_CUTS = (8000, 2000, 500)
"""Characters of the pieces of a text of few documents."""
_SHARES = tuple(Fraction(number, 1000) for number in (1, 2, 5, 10, 20, 30, 50, 70, 100, 150, 200, 300))


class Part(NamedTuple):
    """What is held out of a text."""

    rule: HeldOut
    cut: int | None
    """Characters of a piece; None for whole documents."""
    bytes: int
    """Held out of the whole text, an estimate if not all of it was read."""


def hold_out(survey: TextSurvey, bytes_per_token: float, context: int, most_tokens: float = WANTED_TOKENS) -> Part:
    """The smallest part that gives as many tokens as wanted; of few documents, blocks of their pieces.

    Args:
        survey: the text.
        bytes_per_token: of its tokenizer.
        context: tokens of a row.
        most_tokens: to hold out, so that measuring them does not take longer than training.
    """
    row = bytes_per_token * (context + 1)
    wanted = min(bytes_per_token * min(most_tokens, WANTED_TOKENS), float(survey.expected * MOST_SHARE))
    wanted = max(wanted, _LEAST_ROWS * row)
    rules: list[tuple[str, int | None, int]] = []
    if len(survey.groups) >= _FEW:
        rules.append(("document", None, 16))
    rules += [("block", cut, block) for cut in _CUTS for block in (16, 4, 1)]
    tried = [
        part
        for by, cut, block in rules
        for share in _SHARES
        for part in [_part(survey, HeldOut.model_validate({"share": share, "by": by, "block": block}), cut)]
    ]
    best = max(tried, key=lambda part: _least(part, survey))
    return next((part for part in tried if _suits(part, survey, wanted)), best)


def _suits(part: Part, survey: TextSurvey, wanted: float) -> bool:
    return wanted <= part.bytes <= max(3 * wanted, survey.expected / 20) and part.bytes <= survey.expected / 2


def _least(part: Part, survey: TextSurvey) -> int:
    """Bytes of the smaller of the two parts."""
    return min(part.bytes, survey.expected - part.bytes)


def _part(survey: TextSurvey, rule: HeldOut, cut: int | None) -> Part:
    """What a rule holds out of the documents that were read, in proportion to the whole text."""
    held = 0
    for group, size in survey.groups.items():
        if cut is None:
            held += size * is_held_out(Document("", group, group, 0), rule, survey.name)
            continue
        for first in range(0, max(1, ceil(size / cut)), rule.block):
            if is_held_out(Document("", group, group, first), rule, survey.name):
                held += min(size - first * cut, rule.block * cut)
    return Part(rule, cut, round(held * survey.expected / survey.read))
