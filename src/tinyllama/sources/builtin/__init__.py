"""Builtin sources: the text of the shipped demo recipes, fetched from package registries or generated."""
