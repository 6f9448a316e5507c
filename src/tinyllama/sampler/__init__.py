"""The sampler: (plan, seed, step) → rows, and the rehearsal that verifies it."""

from tinyllama.sampler.permutation import Permutation
from tinyllama.sampler.rehearsal import RANKS, Rehearsal, rehearse
from tinyllama.sampler.sampler import Sampler, StepRows, rank_part

__all__ = ["RANKS", "Permutation", "Rehearsal", "Sampler", "StepRows", "rank_part", "rehearse"]
