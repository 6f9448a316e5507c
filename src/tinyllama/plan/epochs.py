"""What it is worth to read the same text again."""

from __future__ import annotations

import math

MANY_EPOCHS = 4
"""Repeating text up to 4 times is nearly as good as new text (Muennighoff et al. 2023)."""
_REPEATS = 15.39
"""R*, the repetitions after which repeated text has lost most of its worth (Muennighoff et al. 2023, section 5)."""


def effective_epochs(epochs: float) -> float:
    """How many times as much text, all of it new, is worth as much as a text that is read `epochs` times.

    1 + R* · (1 - exp(-R/R*)) with R = epochs - 1 repetitions and R* = 15.39 (Muennighoff et al. 2023, "Scaling
    Data-Constrained Language Models", equation 5).
    """
    repetitions = max(0.0, epochs - 1)
    return min(epochs, 1.0) + _REPEATS * -math.expm1(-repetitions / _REPEATS)
