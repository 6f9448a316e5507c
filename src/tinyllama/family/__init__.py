"""A family: one recipe in one folder, from its text to its report."""

from tinyllama.family.family import Family

__all__ = ["Family"]
