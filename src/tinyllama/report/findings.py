"""Sentences that summarize the bits-per-byte matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.layout import BASE
from tinyllama.report.text import percent
from tinyllama.text import listing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Matrix = dict[str, dict[str, float]]
"""Model → corpus → held-out bits per byte."""

_GAIN, _COST = 0.98, 1.005  # ratios worth a mention


def findings(bits: Matrix, reference: str, home: Iterable[str]) -> dict[str, str]:
    """Model → one sentence on where it is better and worse.

    The first variant is compared with the base, and the other variants with the first.

    Args:
        bits: the matrix.
        reference: the first variant.
        home: the corpora the base was trained on.
    """
    sentences = {}
    for model, row in bits.items():
        other, corpora = (BASE, list(home)) if model == reference else (reference, list(row))
        if model == BASE or other not in bits:
            continue
        ratios = {name: row[name] / bits[other][name] for name in corpora if name in row and name in bits[other]}
        if sentence := findings_against(ratios, other):
            sentences[model] = sentence
    return sentences


def findings_against(ratios: Mapping[str, float], other: str) -> str:
    """One sentence on where a model needs fewer and more bits than another; empty if it is nowhere worth a mention.

    Args:
        ratios: corpus → the model's bits per byte by the other's.
        other: the other model.
    """
    gains = sorted((ratio, name) for name, ratio in ratios.items() if ratio <= _GAIN)
    costs = sorted(((ratio, name) for name, ratio in ratios.items() if ratio >= _COST), reverse=True)
    against = "the base" if other == BASE else other
    parts = []
    if gains:
        parts.append(_compared([(1 - ratio, name) for ratio, name in gains], f"fewer bits than {against} on"))
    if costs:
        words = "more on" if gains else f"more bits than {against} on"
        parts.append(_compared([(ratio - 1, name) for ratio, name in costs], words))
    return "; ".join(parts)


def _compared(changes: list[tuple[float, str]], words: str) -> str:
    """`56% fewer bits than v1.1 on code and 67% on mathematics`."""
    first, *rest = [(percent(100 * change), name) for change, name in changes]
    return listing([f"{first[0]} {words} {first[1]}", *[f"{change} on {name}" for change, name in rest]])
