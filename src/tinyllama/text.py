"""Small pieces of text that many modules write: tables in Markdown, lists, percentages, suggestions."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MISSING = "—"
"""Stands for a value that is not there."""
_LONGEST_SHOWN = 60
"""Most characters of a value in a message."""


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, without a line end after its last row."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, ["---"] * len(header), *rows])


def number(value: float | None, digits: int) -> str:
    """A number with `digits` decimals; None becomes a dash."""
    return MISSING if value is None else f"{value:.{digits}f}"


def percent(fraction: float | None, digits: int = 2) -> str:
    """0.4321 → `43.21`, without the sign; None becomes a dash."""
    return MISSING if fraction is None else f"{100 * fraction:.{digits}f}"


def listing(items: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else "".join(items)


def shown(value: object) -> str:
    """A value in a message: quoted, and shortened if it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 2]}…{text[-1]}"


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`; did you mean 'nano'?` for the known word nearest to this one; nothing where none is near."""
    nearest = get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""
