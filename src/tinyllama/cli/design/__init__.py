"""The commands that design: `new`, `size` and `ladder`."""

from tinyllama.cli.design import ladder, new, size

__all__ = ["ladder", "new", "size"]
