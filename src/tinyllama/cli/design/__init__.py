"""The commands that design: `new` and `size`."""

from tinyllama.cli.design import new, size

__all__ = ["new", "size"]
