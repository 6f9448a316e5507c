"""The sampler: (plan, seed, step) → rows."""

from tinyllama.sampler.permutation import Permutation
from tinyllama.sampler.sampler import Sampler, StepRows

__all__ = ["Permutation", "Sampler", "StepRows"]
