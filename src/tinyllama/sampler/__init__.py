"""The sampler: (plan, seed, step) → rows, and the rehearsal that verifies it."""

from tinyllama.sampler.permutation import Permutation
from tinyllama.sampler.rehearsal import Rehearsal, rehearse
from tinyllama.sampler.sampler import Sampler, StepRows, rank_part

__all__ = ["Permutation", "Rehearsal", "Sampler", "StepRows", "rank_part", "rehearse"]
