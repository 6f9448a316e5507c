"""A family: one recipe in one folder, from text to report."""

from tinyllama.family.family import Family

__all__ = ["Family"]
