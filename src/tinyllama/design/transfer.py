"""The ways in which a peak learning rate of a small model becomes that of a recipe; imports nothing, for help texts."""

from __future__ import annotations

from enum import StrEnum


class Transfer(StrEnum):
    """How the best peak of a small model becomes that of the recipe."""

    MUP = "mup"
    """It stays, by muP (Yang et al. 2022), but for the number of tokens; trials have the recipe's batch."""
    COMPUTE = "compute"
    """It falls with the compute, and the batch rises (Bi et al. 2024, "DeepSeek LLM", equation 1), as in a ladder."""
